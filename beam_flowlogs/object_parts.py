"""An object's rows in, batch by batch; its small part of each roll-up out.

Rows are sorted by a number that tells their roll-up and class, and summed in runs: integers all the way, so sums are
exact, and what a row costs does not depend on how many numbers a roll-up has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rollup import COUNTERS, DIMENSIONS, KEY_COLUMNS, Part, RollUpKey
from beam_flowlogs.rollup_details import DetailsOfObject
from beam_flowlogs.rows import Rows, milliseconds

Ints = npt.NDArray[np.int64]
Columns = Mapping[str, pa.Array]

_COMPACT_AT = 400_000
"""Sums that are held before those of one roll-up are brought together."""

_STATUSES = ("", "nodata", "skipdata")
_ACTIONS = ("", "accepted", "rejected")
_DIRECTIONS = ("", "ingress", "egress")
_PROTOCOLS = ("other", "tcp", "udp", "icmp")
_HANDSHAKES = (("",), ("tcp.begun",), ("tcp.answered",), ("tcp.reset",), ("tcp.begun", "tcp.reset"),
               ("tcp.answered", "tcp.reset"))  # fmt: skip
_CLASSES = tuple(product(_STATUSES, _ACTIONS, _DIRECTIONS, _PROTOCOLS, _HANDSHAKES))
"""Every way in which a row can count; a row's class is its place here."""

_PROTOCOL_OF = np.zeros(256, np.int64)
_PROTOCOL_OF[[6, 17, 1, 58]] = [1, 2, 3, 3]
_HANDSHAKE_OF = np.array(
    [(2 if flags & 16 else 1 if flags & 2 else 0) * bool(flags & 2) + (3 if flags & 4 else 0) for flags in range(64)]
)


def _counted(counter: str) -> tuple[str, npt.NDArray[np.bool_]]:
    """Return which sum of a class's rows a counter adds up, and for each class whether it counts."""
    group, _, name = counter.rpartition(".")
    if counter in _STATUSES:
        return "flows", np.array([status == counter for status, *_ in _CLASSES])
    if group == "tcp":
        return "flows", np.array([not status and counter in handshake for status, _, _, _, handshake in _CLASSES])
    group = group.removeprefix("protocol.")
    return name, np.array(
        [
            not status and group in ("", action, direction, protocol)
            for status, action, direction, protocol, _ in _CLASSES
        ]
    )


_COUNTED = [_counted(counter) for counter in COUNTERS]


class _Sums(NamedTuple):
    """Sums over rows of one roll-up and class: both as numbers, and the three sums."""

    code: Ints
    flows: Ints
    bytes: Ints
    packets: Ints


class Placed(NamedTuple):
    """Which roll-up each of some rows counts in: its ``group``, and the ``groups`` met, one for each run of ``order``.

    The run of rows of ``groups[n]`` begins at ``starts[n]`` of ``order``.
    """

    group: Ints
    groups: Ints
    starts: Ints
    order: Ints


class PartsOfObject:
    """Collects an object's rows into its parts; memory is bounded by its interfaces and windows, ``most`` together.

    ``windows`` are lengths in seconds, each a multiple of the first. ``details`` asks for those
    distinct counts and top lists that every row takes part in, ``conversations`` for so many of each roll-up.
    """

    def __init__(
        self,
        origin: Origin,
        windows: Sequence[int],
        flow_log_id: str = "",
        *,
        details: bool = False,
        conversations: int = 0,
        most: int = Limits.rollups,
    ) -> None:
        self._origin = origin
        self._windows = windows
        self._fallback = ("flow_log", flow_log_id or "unknown")
        self._most = most
        self._groups: dict[tuple[tuple[str, str], int], int] = {}
        self._sums: list[_Sums] = []
        self._held = 0
        self._known = _Known()
        self._details = DetailsOfObject(complete=details, conversations=conversations)

    def place(self, rows: Rows) -> Placed:
        """Find the roll-ups of rows, which are not counted yet. There is at least one row.

        Raises DecodeError (``too-many-roll-ups``) where the object's would be more than it may have.
        """
        size = rows.batch.num_rows
        columns = dict(zip(rows.batch.schema.names, rows.batch.columns))
        local, keys = _keys(columns, size)
        minutes = rows.times // (1000 * self._windows[0])
        first = int(minutes.min())
        span = int(minutes.max()) - first + 1
        code = local * span + (minutes - first)
        order = np.argsort(code, kind="stable")
        starts = _run_starts(code[order])
        distinct = code[order[starts]]
        groups = self._numbered(keys, distinct, span, first)
        # The groups' numbers in the order of the sorted rows, then back in the order of the batch.
        group = np.empty(size, np.int64)
        group[order] = np.repeat(groups, np.diff(np.append(starts, size)))
        if len(self._groups) > self._most:
            raise DecodeError(
                "too-many-roll-ups",
                f"its interfaces and windows are more than {self._most}: raise --max-rollups if it is genuine",
            )
        return Placed(group, groups, starts, order)

    def add(self, rows: Rows, placed: Placed | None = None) -> None:
        """Count rows in; ``placed`` is what ``place`` gave for them."""
        if not rows.batch.num_rows:
            return
        placed = placed or self.place(rows)
        columns = dict(zip(rows.batch.schema.names, rows.batch.columns))
        self._known.add(placed.groups, placed.starts, placed.order, columns, rows.times)
        self._count(placed.group, columns, rows.batch.num_rows)
        self._details.add(placed.group, rows, columns)

    def finish(self) -> list[tuple[RollUpKey, Part]]:
        """Return the object's parts, each with the roll-up that it belongs to."""
        if not self._sums:
            return []
        counted = np.zeros(len(self._groups), bool)  # the others were placed only: their documents were refused
        for sums in self._sums:
            counted[sums.code // len(_CLASSES)] = True
        found: list[tuple[RollUpKey, Part]] = []
        for window_s in self._windows:
            keys: dict[RollUpKey, int] = {}
            group_of = np.empty(len(self._groups), np.int64)
            for ((key_type, key), minute), group in self._groups.items():
                if not counted[group]:
                    continue
                start = minute * self._windows[0] // window_s * window_s
                group_of[group] = keys.setdefault(RollUpKey(window_s, start, key_type, key), len(keys))
            counters = self._counters(group_of)
            firsts, lasts, dimensions = self._known.finish(group_of, len(keys), self._origin)
            details = self._details.finish(group_of, len(keys))
            object_ids = [self._origin.object_id] * len(keys)
            found += zip(keys, map(Part, object_ids, counters, firsts, lasts, dimensions, details))
        return found

    def _numbered(self, keys: Sequence[tuple[str, str] | None], codes: Ints, span: int, first: int) -> Ints:
        known = self._groups
        named = [key or self._fallback for key in keys]
        return np.array(
            [known.setdefault((named[code // span], first + code % span), len(known)) for code in codes.tolist()]
        )

    def _count(self, group: Ints, columns: Columns, size: int) -> None:
        sums = _Sums(
            group * len(_CLASSES) + _classes(columns, size),
            np.ones(size, np.int64),
            *(_integers(columns.get(name), size) for name in ("bytes", "packets")),
        )
        self._sums.append(_summed(sums))
        self._held += len(self._sums[-1].code)
        if self._held > _COMPACT_AT:
            self._sums = [_summed(_together(self._sums))]
            self._held = len(self._sums[0].code) // 2  # else many roll-ups would be summed anew each time

    def _counters(self, group_of: Ints) -> list[tuple[int, ...]]:
        together = _together(self._sums)
        group, kind = np.divmod(together.code, len(_CLASSES))
        summed = _summed(together._replace(code=group_of[group] * len(_CLASSES) + kind))
        group, kind = np.divmod(summed.code, len(_CLASSES))
        starts = _run_starts(group)
        measures = summed._asdict()
        columns = [np.add.reduceat(_roomy(measures[name]) * counts[kind], starts) for name, counts in _COUNTED]
        return list(zip(*(column.tolist() for column in columns)))


def parts_of_object(origin: Origin, flow_log_id: str, config: JobConfig) -> PartsOfObject:
    """Return a collector of an object's parts, as a job is told to make them."""
    return PartsOfObject(
        origin,
        config.windows,
        flow_log_id,
        details=config.rollup_details,
        conversations=config.conversations,
        most=config.limits.rollups,
    )


class _Known:
    """What is known of each roll-up beside its sums: first and last time, and a value of each dimension.

    That is the greatest of those that begin the rows of each batch: rows of one interface and minute say the same.
    """

    def __init__(self) -> None:
        self._times: list[tuple[Ints, Ints, Ints]] = []
        self._values: dict[str, list[tuple[Ints, Ints]]] = {name: [] for name in DIMENSIONS}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in DIMENSIONS}

    def add(self, groups: Ints, starts: Ints, order: Ints, columns: Columns, times: Ints) -> None:
        """Take a batch's rows, whose ``order`` puts those of each of ``groups`` together from ``starts`` on."""
        begun = times
        if "start" in columns:
            begun = pc.coalesce(milliseconds(columns["start"]), pa.array(times)).to_numpy(zero_copy_only=False)
        firsts = np.minimum.reduceat(begun[order], starts)
        self._times.append((groups, firsts, np.maximum.reduceat(times[order], starts)))
        for name in DIMENSIONS:
            if name not in columns or columns[name].null_count == len(columns[name]):
                continue
            firsts = _first_valid(columns[name], starts, order)
            there = firsts < len(times)
            known = self._texts[name]
            texts = columns[name].take(firsts[there]).to_pylist()
            numbers = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
            self._values[name].append((groups[there], numbers))

    def finish(
        self, group_of: Ints, groups: int, origin: Origin
    ) -> tuple[list[int], list[int], list[Mapping[str, str]]]:
        """Return the first times, the last times and the dimensions by group; ``group_of`` maps what was added."""
        firsts, lasts = np.full(groups, np.iinfo(np.int64).max), np.zeros(groups, np.int64)
        for group, first, last in self._times:
            np.minimum.at(firsts, group_of[group], first)
            np.maximum.at(lasts, group_of[group], last)
        found: dict[str, list[str]] = {}
        for name, batches in self._values.items():
            texts = sorted(self._texts[name])
            rank_of = np.empty(len(texts), np.int64)
            rank_of[[self._texts[name][text] for text in texts]] = np.arange(len(texts))
            ranks = np.full(groups, -1)
            for group, numbers in batches:
                np.maximum.at(ranks, group_of[group], rank_of[numbers])
            texts.append("")  # of rank -1
            found[name] = [texts[rank] for rank in ranks.tolist()]
        found["account_id"] = [
            value if value not in ("", "unknown") else origin.account_id for value in found["account_id"]
        ]
        found["region"] = [value or origin.region for value in found["region"]]
        dimensions: list[Mapping[str, str]] = [
            {name: value for name, value in zip(found, values) if value} for values in zip(*found.values())
        ]
        return firsts.tolist(), lasts.tolist(), dimensions


def _keys(columns: Columns, size: int) -> tuple[Ints, list[tuple[str, str] | None]]:
    """Return for each row the place of its key, and the keys as (type, value); None where a row names none."""
    local = np.zeros(size, np.int64)
    keys: list[tuple[str, str] | None] = [None]
    for key_type, name in KEY_COLUMNS.items():
        column = columns.get(name)
        if column is None:
            continue
        encoded = pc.dictionary_encode(column)
        indices = encoded.indices
        if not indices.null_count and len(keys) == 1:
            return indices.to_numpy(zero_copy_only=False).astype(np.int64), [
                (key_type, value) for value in encoded.dictionary.to_pylist()
            ]
        places = pc.fill_null(indices, -len(keys)).to_numpy(zero_copy_only=False) + len(keys)
        local = np.where(local == 0, places, local)
        keys += [(key_type, value) for value in encoded.dictionary.to_pylist()]
    return local, keys


def _classes(columns: Columns, size: int) -> Ints:
    found = np.zeros(size, np.int64)
    for name, values in (
        ("log_status", ["NODATA", "SKIPDATA"]),
        ("action", ["ACCEPT", "REJECT"]),
        ("flow_direction", ["ingress", "egress"]),
    ):
        found *= 3
        column = columns.get(name)
        if column is not None and column.null_count < size:
            found += pc.fill_null(pc.index_in(column, value_set=pa.array(values)), -1).to_numpy(zero_copy_only=False)
            found += 1
    found *= len(_PROTOCOLS)
    if "protocol" in columns:
        found += _PROTOCOL_OF[_integers(columns["protocol"], size)]
    found *= len(_HANDSHAKES)
    if "tcp_flags" in columns:
        found += _HANDSHAKE_OF[_integers(columns["tcp_flags"], size) & 63]
    return found


def _integers(column: pa.Array | None, size: int) -> Ints:
    if column is None:
        return np.zeros(size, np.int64)
    filled = pc.fill_null(column, 0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False)


def _first_valid(column: pa.Array, starts: Ints, order: Ints) -> Ints:
    """Return the place of the first row with a value of each run, the column's length where it has none."""
    if not column.null_count:
        return order[starts]
    valid = pc.is_valid(column).to_numpy(zero_copy_only=False)[order]
    return np.minimum.reduceat(np.where(valid, order, len(column)), starts)


def _run_starts(ordered: Ints) -> Ints:
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def _together(sums: Sequence[_Sums]) -> _Sums:
    return _Sums(*map(np.concatenate, zip(*sums)))


def _roomy(values: Ints) -> Ints:
    """Return values whose sum cannot overflow: as Python's integers if 64 bits might not hold it."""
    return values.astype(object) if len(values) and int(values.max()) * len(values) >> 63 else values


def _summed(sums: _Sums) -> _Sums:
    order = np.argsort(sums.code, kind="stable")
    code = sums.code[order]
    starts = _run_starts(code)
    return _Sums(code[starts], *(np.add.reduceat(_roomy(values)[order], starts) for values in sums[1:]))
