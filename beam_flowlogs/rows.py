"""Rows of a flow log as a typed Arrow record batch, each with its number and its time; what is out of range is bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.addresses import Addresses, parse_addresses
from beam_flowlogs.fields import Kind, field_of

_SECONDS_END = 10**11
"""A logged time from here on is in milliseconds: in seconds it would be the year 5138."""
_EARLIEST_MS = 1_420_070_400_000
"""2015-01-01: flow logs are younger. An older time is an error, and would open an index of its own."""
_LATEST_MS = 4_102_444_800_000
"""2100-01-01."""


class BadRow(NamedTuple):
    """A row set aside: its number, a stable reason code, what was wrong, and header and line to read it again from."""

    number: int
    reason: str
    detail: str
    data: bytes


class Rows(NamedTuple):
    """Some rows of one object.

    ``batch`` has a typed column for each logged field, named ``Field.column``; ``-`` is null. ``numbers`` are the rows'
    places below the header, counted from 0 with bad and blank ones. ``times`` are their event times in Unix
    milliseconds: ``end``, else ``start``, else the delivery slot. ``addresses`` holds the parsed address columns.
    """

    batch: pa.RecordBatch
    numbers: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    addresses: Mapping[str, Addresses]
    bad: Sequence[BadRow] = ()

    def pick(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """Return the rows that ``mask`` names, without the bad ones."""
        addresses = {name: known.pick(mask) for name, known in self.addresses.items()}
        return Rows(self.batch.filter(pa.array(mask)), self.numbers[mask], self.times[mask], addresses)


def check_rows(
    batch: pa.RecordBatch, numbers: npt.NDArray[np.int64], slot_ms: int | None, raw: Callable[[int], bytes]
) -> Rows:
    """Return the rows that are in range, and as bad ones those that are not.

    ``slot_ms`` is the time of rows that log none, and ``raw`` gives the bytes to keep of the row at a position.
    """
    faults: dict[int, tuple[str, str]] = {}
    addresses: dict[str, Addresses] = {}
    for name, column in zip(batch.schema.names, batch.columns):
        field = field_of(name)
        if field.kind is Kind.ADDRESS:
            addresses[name] = parsed = parse_addresses(column)
            if np.count_nonzero(parsed.valid) + column.null_count < len(column):
                for at in np.flatnonzero(~parsed.valid & pc.is_valid(column).to_numpy(zero_copy_only=False)).tolist():
                    faults[at] = ("not-an-address", f"{field.name} is {column[at].as_py()[:60]!r}")
        elif field.kind.is_number and column.null_count < len(column):
            extent = pc.min_max(column)
            maximum = extent["max"].as_py() if field.maximum is None else field.maximum
            if extent["min"].as_py() < 0 or extent["max"].as_py() > maximum:
                for at, value in enumerate(column.to_pylist()):
                    if value is not None and not 0 <= value <= maximum:
                        faults[at] = ("out-of-range", f"{field.name} is {value}")
    times = event_times(batch, slot_ms)
    for at in np.flatnonzero((times < _EARLIEST_MS) | (times >= _LATEST_MS)).tolist():
        logged = int(times[at])
        faults.setdefault(
            at,
            ("time-out-of-range", f"its time is {logged} ms since 1970, which is not between 2015 and 2100")
            if logged >= 0
            else ("time-missing", "neither end nor start is logged, and the object's key names no delivery slot"),
        )
    rows = Rows(batch, numbers, times, addresses)
    if not faults:
        return rows
    good = np.ones(batch.num_rows, bool)
    good[list(faults)] = False
    bad = [BadRow(int(numbers[at]), *fault, raw(at)) for at, fault in sorted(faults.items())]
    return rows.pick(good)._replace(bad=bad)


def event_times(batch: pa.RecordBatch, slot_ms: int | None) -> npt.NDArray[np.int64]:
    """Return the rows' event times in Unix milliseconds; -1 where neither the row nor its object has one."""
    logged = [milliseconds(batch.column(name)) for name in ("end", "start") if name in batch.schema.names]
    fallback = -1 if slot_ms is None else slot_ms
    if not logged:
        return np.full(batch.num_rows, fallback, np.int64)
    return pc.fill_null(pc.coalesce(*logged), fallback).to_numpy(zero_copy_only=False)


def milliseconds(times: pa.Int64Array) -> pa.Int64Array:
    """Return logged times, in seconds or milliseconds, as milliseconds."""
    if len(times) and (pc.max(times).as_py() or 0) >= _SECONDS_END:
        return pc.if_else(pc.less(times, _SECONDS_END), pc.multiply(times, 1000), times)
    return pc.multiply(times, 1000)
