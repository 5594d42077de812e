"""Rows of a flow log as a typed Arrow record batch, each with its number and its time; what is out of range is bad."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.addresses import Addresses, offsets, parse_addresses
from beam_flowlogs.coded import Coded, by_value, coded
from beam_flowlogs.fields import LONGEST_TEXT, Field, Kind, field_of
from beam_flowlogs.grouped import Ints, Places, integers, numbered

Fault: TypeAlias = tuple[str, str]
"""Why a row is bad: a stable reason code, and what was wrong."""

_SECONDS_END = 10**11
"""A logged time from here on is in milliseconds: in seconds it would be the year 5138."""
_EARLIEST_MS = 1_420_070_400_000
"""2015-01-01: flow logs are younger. An older time is an error, and would open an index of its own."""
_LATEST_MS = 4_102_444_800_000
"""2100-01-01."""

_DAY_MS = 86_400_000

_NO_TIME: Fault = (
    "time-missing",
    "neither end nor start is logged, and the object's key names no delivery slot",
)
_NUMBER = re.compile(r"-?[0-9]+")


class BadRow(NamedTuple):
    """A row set aside: its number, a stable reason code, what was wrong, and header and line to read it again from."""

    number: int
    reason: str
    detail: str
    data: bytes


_ROWS_KEPT = 1000
_BYTES_KEPT = 1 << 20
"""What is kept of one batch's bad rows: they are copies, with a header line each, and a batch may be nothing else."""
_UNSAID: Fault = ("", "")


class BadRows:
    """Collects the bad rows of a batch: the first ones are ``kept``, of the others it is known how many ``more``."""

    def __init__(self) -> None:
        self.kept: list[BadRow] = []
        self.more = 0
        self._bytes = 0

    def add(self, number: int, fault: Fault, raw: Callable[[], bytes]) -> None:
        """Take a row; ``raw`` makes the bytes to keep of it."""
        if fault is _UNSAID or len(self.kept) >= _ROWS_KEPT or self._bytes >= _BYTES_KEPT:
            self.more += 1
            return
        data = raw()
        self._bytes += len(data)
        self.kept.append(BadRow(number, *fault, data))


class _Faults(dict[int, Fault]):
    """The first fault of each bad row, by position; of many, what it is remains unsaid."""

    def note(self, at: int, fault: Fault) -> None:
        if at not in self:
            self[at] = fault if len(self) < _ROWS_KEPT else _UNSAID


@dataclass(frozen=True)
class Rows:
    """Some rows of one object.

    ``batch`` has a typed column for each logged field, named ``Field.column``; ``-`` is null. ``numbers`` are the rows'
    places below the header, counted from 0 with bad and blank ones. ``times`` are their event times in Unix
    milliseconds: ``end``, else ``start``, else the delivery slot; ``starts`` when they began: ``start``, else the event
    time. ``addresses`` holds the parsed address columns.
    ``more_bad`` is how many bad rows there are beside those in ``bad``. ``named`` tells that the object has no header
    line: its columns are those that it was said to have.
    """

    batch: pa.RecordBatch
    numbers: Ints
    starts: Ints
    times: Ints
    addresses: Mapping[str, Addresses]
    bad: Sequence[BadRow] = ()
    more_bad: int = 0
    named: bool = False
    _by_value: dict[str, Coded | pa.Array] = field(default_factory=dict, init=False, repr=False, compare=False)
    _codes: dict[str, tuple[Places, list[Any]]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _integers: dict[str, Ints] = field(default_factory=dict, init=False, repr=False, compare=False)
    _combined: dict[tuple[str, ...], tuple[Ints, Places]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def columns(self) -> Mapping[str, pa.Array]:
        """The columns of the batch by their names."""
        return dict(zip(self.batch.schema.names, self.batch.columns))

    def by_value(self, name: str) -> Coded | pa.Array:
        """Return a column of the batch by its distinct values, as it is where they are many; looked up once."""
        if name not in self._by_value:
            column = self.batch.column(name)
            self._by_value[name] = coded(column) or column
        return self._by_value[name]

    def codes(self, name: str) -> tuple[Places, list[Any]]:
        """Return a column of the batch as the place of each row's value among the distinct ones, and those."""
        if name not in self._codes:
            column = self.by_value(name)
            known = column if isinstance(column, Coded) else by_value(column)
            self._codes[name] = known.codes, known.values.to_pylist()
        return self._codes[name]

    def integers(self, name: str) -> Ints:
        """Return a column of the batch as numbers, 0 where it is null or not logged; made once."""
        if name not in self._integers:
            self._integers[name] = integers(self.columns.get(name), self.batch.num_rows)
        return self._integers[name]

    def combined(self, names: tuple[str, ...]) -> tuple[Ints, Places]:
        """Return a row of each combination of values that columns (those that are there) have together, and for each
        row which of them is its own; looked up once.
        """
        if names not in self._combined:
            columns = [
                (codes, len(values)) for codes, values in (self.codes(name) for name in names if name in self.columns)
            ]
            self._combined[names] = numbered(columns or [(np.zeros(self.batch.num_rows, np.int32), 1)])
        return self._combined[names]

    def pick(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """Return the rows that ``mask`` names, without the bad ones."""
        addresses = {name: known.pick(mask) for name, known in self.addresses.items()}
        batch = self.batch.filter(pa.array(mask))
        return Rows(batch, self.numbers[mask], self.starts[mask], self.times[mask], addresses)


class Period:
    """The time that one object's rows may be of: a broken clock must not open an index for every day there is.

    They are within ``days`` of ``slot_ms``, the delivery slot that the object's key names, which is also the time of
    rows that log none. Where no slot is known, they are within ``days`` of the first row that is in order, and that not
    later than so after ``written_ms``, when the object was written. Unix milliseconds (docs/decisions/0013).
    """

    def __init__(self, slot_ms: int | None, written_ms: int | None, days: int) -> None:
        self.slot_ms = slot_ms
        self._reach = days * _DAY_MS
        self._middle = slot_ms
        self._latest = _LATEST_MS if written_ms is None else written_ms + self._reach

    def check(self, times: npt.NDArray[np.int64], faults: _Faults) -> None:
        """Note what is wrong with times, by position; rows that have a fault already tell nothing of the object."""
        if self._middle is None:
            possible = times <= self._latest
            possible[list(faults)] = False
            if possible.any():
                self._middle = int(times[np.argmax(possible)])
        if self._middle is None:
            earliest, latest = _EARLIEST_MS, self._latest
        else:
            earliest, latest = self._middle - self._reach, self._middle + self._reach
        span = f"its object's are of {_iso(earliest)} to {_iso(latest)}: raise --max-days if it is genuine"
        for at in np.flatnonzero((times < earliest) | (times > latest)).tolist():
            faults.note(at, ("time-implausible", f"its time is {_iso(times[at])}, but {span}"))


def _iso(time_ms: int) -> str:
    return f"{np.datetime64(int(time_ms), 'ms')}Z"


def number_fault(field: Field, text: str) -> Fault | None:
    """Return what is wrong with the text of a number; None if it is decimal and fits its column."""
    if not _NUMBER.fullmatch(text):
        return "not-a-number", f"{field.name} is {text[:40]!r}"
    digits = text.lstrip("-").lstrip("0")
    # The length first: Python takes its time over the number that a million digits are.
    if len(digits) > 19 or int(digits or 0) >= 1 << (field.kind.arrow.bit_width - 1):
        return _out_of_range(field, text)
    return None


def _out_of_range(field: Field, text: object) -> Fault:
    return "out-of-range", f"{field.name} is {str(text)[:40]}"


def check_rows(
    batch: pa.RecordBatch,
    numbers: npt.NDArray[np.int64],
    period: Period,
    raw: Callable[[int], bytes],
    bad: BadRows | None = None,
) -> Rows:
    """Return the rows that are in range, and as bad ones those that are not, with those that are ``bad`` already.

    ``period`` is that of their object, and ``raw`` gives the bytes to keep of the row at a position.
    """
    bad = bad or BadRows()
    faults = _Faults()
    addresses: dict[str, Addresses] = {}
    for name, column in zip(batch.schema.names, batch.columns):
        field = field_of(name)
        if field.kind is Kind.ADDRESS:
            addresses[name] = parsed = parse_addresses(column)
            if np.count_nonzero(parsed.valid) + column.null_count < len(column):
                for at in np.flatnonzero(~parsed.valid & pc.is_valid(column).to_numpy(zero_copy_only=False)).tolist():
                    faults.note(at, ("not-an-address", f"{field.name} is {column[at].as_py()[:60]!r}"))
        elif field.kind.is_number and column.null_count < len(column):
            extent = pc.min_max(column)
            maximum = extent["max"].as_py() if field.maximum is None else field.maximum
            if extent["min"].as_py() < 0 or extent["max"].as_py() > maximum:
                for at, value in enumerate(column.to_pylist()):
                    if value is not None and not 0 <= value <= maximum:
                        faults.note(at, _out_of_range(field, value))
        elif not field.kind.is_number:
            lengths = np.diff(offsets(column))
            for at in np.flatnonzero(lengths > LONGEST_TEXT).tolist():
                fault = "value-too-long", f"{field.name} is {lengths[at]} bytes long, more than {LONGEST_TEXT}"
                faults.note(at, fault)
    starts, times = logged_times(batch, period.slot_ms)
    for at in _outside(times):
        faults.note(at, _time_fault("its time", times[at]) if times[at] >= 0 else _NO_TIME)
    for at in _outside(starts):
        faults.note(at, _time_fault("start", starts[at]))
    period.check(times, faults)
    rows = Rows(batch, numbers, starts, times, addresses)
    if faults:
        good = np.ones(batch.num_rows, bool)
        good[list(faults)] = False
        for at, fault in sorted(faults.items()):
            bad.add(int(numbers[at]), fault, partial(raw, at))
        rows = rows.pick(good)
    return replace(rows, bad=tuple(bad.kept), more_bad=bad.more)


def _outside(times: npt.NDArray[np.int64]) -> list[int]:
    return np.flatnonzero((times < _EARLIEST_MS) | (times >= _LATEST_MS)).tolist()


def _time_fault(name: str, time: np.int64) -> Fault:
    return "time-out-of-range", f"{name} is {time} ms since 1970, which is not between 2015 and 2100"


def logged_times(batch: pa.RecordBatch, slot_ms: int | None) -> tuple[Ints, Ints]:
    """Return when rows began and their event times in Unix ms; -1 where neither they nor their object tell a time."""
    starts, ends = (
        milliseconds(batch.column(name)) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.int64())
        for name in ("start", "end")
    )
    times = _filled(_filled(ends, starts), pa.scalar(-1 if slot_ms is None else slot_ms, pa.int64()))
    return _filled(starts, times).to_numpy(), times.to_numpy()


def _filled(times: pa.Int64Array, others: pa.Int64Array | pa.Int64Scalar) -> pa.Int64Array:
    """Return times, where there are none the others."""
    return pc.coalesce(times, others) if times.null_count else times


def milliseconds(times: pa.Int64Array) -> pa.Int64Array:
    """Return logged times, in seconds or milliseconds, as milliseconds."""
    if len(times) and (pc.max(times).as_py() or 0) >= _SECONDS_END:
        return pc.if_else(pc.less(times, _SECONDS_END), pc.multiply(times, 1000), times)
    return pc.multiply(times, 1000)
