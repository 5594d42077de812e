"""An object's rows in, batch by batch; its small part of each roll-up out.

A batch's rows are brought together by everything that says how they count (interface, minute, class, dimensions) and
added up once; all else is done for those combinations, of which there are few. Sums are integers all the way, so they
are exact, and what a row costs does not depend on how many numbers a roll-up has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin
from beam_flowlogs.grouped import Ints, Places, Sums, integers, numbered, roomy, run_starts, summed, sums_at, together
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rollup import DIMENSIONS, KEY_COLUMNS, Part, RollUpKey
from beam_flowlogs.rollup_details import DetailsOfObject
from beam_flowlogs.row_classes import CLASSED, CLASSES, COUNTED, classes
from beam_flowlogs.rows import Rows, milliseconds

Columns = Mapping[str, pa.Array]

_COMPACT_AT = 400_000
"""Sums that are held before those of one roll-up are brought together."""
_NEVER = np.iinfo(np.int64).max
_UNLOGGED = {"account_id": "unknown"}
"""What AWS writes where it does not know a dimension."""


class Placed(NamedTuple):
    """How some rows count: the combinations met, by a row of each and its roll-up's number; and each row's own."""

    rows: Ints
    groups: Ints
    at: Places


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
        self._sums: list[Sums] = []
        self._held = 0
        self._known = _Known()
        self._details = DetailsOfObject(complete=details, conversations=conversations)

    def place(self, rows: Rows) -> Placed:
        """Find the roll-ups of rows, which are not counted yet. There is at least one row.

        Raises DecodeError (``too-many-roll-ups``) where the object's would be more than it may have.
        """
        key, keys = _keys(rows)
        minutes = rows.times // (1000 * self._windows[0])
        first = int(minutes.min())
        span = int(minutes.max()) - first + 1
        told = [name for name in (*CLASSED, *DIMENSIONS) if name in rows.batch.schema.names]
        columns = [(codes, len(values)) for codes, values in map(rows.codes, told)]
        met, at = numbered([(key, len(keys)), (minutes - first, span), *columns])
        groups = self._numbered(keys, key[met].tolist(), minutes[met].tolist())
        if len(self._groups) > self._most:
            raise DecodeError(
                "too-many-roll-ups",
                f"its interfaces and windows are more than {self._most}: raise --max-rollups if it is genuine",
            )
        return Placed(met, groups, at)

    def add(self, rows: Rows, placed: Placed | None = None) -> None:
        """Count rows in; ``placed`` is what ``place`` gave for them."""
        if not rows.batch.num_rows:
            return
        placed = placed or self.place(rows)
        columns = dict(zip(rows.batch.schema.names, rows.batch.columns))
        group = placed.groups.take(placed.at)
        self._known.add(placed, group, rows)
        self._count(placed, rows, columns)
        self._details.add(group, rows, columns)

    def finish(self) -> list[tuple[RollUpKey, Part]]:
        """Return the object's parts, each with the roll-up that it belongs to."""
        if not self._sums:
            return []
        counted = np.zeros(len(self._groups), bool)  # the others were placed only: their documents were refused
        for sums in self._sums:
            counted[sums.code // len(CLASSES)] = True
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

    def _numbered(self, keys: Sequence[tuple[str, str] | None], places: Sequence[int], minutes: Sequence[int]) -> Ints:
        known = self._groups
        named = [key or self._fallback for key in keys]
        return np.array(
            [known.setdefault((named[place], minute), len(known)) for place, minute in zip(places, minutes)]
        )

    def _count(self, placed: Placed, rows: Rows, columns: Columns) -> None:
        size = len(placed.rows)
        flows = np.bincount(placed.at, minlength=size)
        measures = [
            sums_at(placed.at, size, integers(columns.get(name), len(placed.at))) for name in ("bytes", "packets")
        ]
        self._sums.append(Sums(placed.groups * len(CLASSES) + classes(rows, placed.rows), flows, *measures))
        self._held += size
        if self._held > _COMPACT_AT:
            self._sums = [summed(together(self._sums))]
            self._held = len(self._sums[0].code) // 2  # else many roll-ups would be summed anew each time

    def _counters(self, group_of: Ints) -> list[tuple[int, ...]]:
        found = together(self._sums)
        group, kind = np.divmod(found.code, len(CLASSES))
        found = summed(found._replace(code=group_of[group] * len(CLASSES) + kind))
        group, kind = np.divmod(found.code, len(CLASSES))
        starts = run_starts(group)
        measures = found._asdict()
        columns = [np.add.reduceat(roomy(measures[name]) * counts[kind], starts) for name, counts in COUNTED]
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
    """What is known of each roll-up beside its sums: first and last time, and the greatest value of each dimension."""

    def __init__(self) -> None:
        self._firsts = np.zeros(0, np.int64)
        self._lasts = np.zeros(0, np.int64)
        self._said: dict[str, dict[int, str]] = {name: {} for name in DIMENSIONS}

    def add(self, placed: Placed, group: Ints, rows: Rows) -> None:
        """Take a batch's rows; ``group`` is the number of each row's roll-up."""
        names, begun = rows.batch.schema.names, rows.times
        if "start" in names:
            start = milliseconds(rows.batch.column("start"))
            begun = (pc.coalesce(start, pa.array(begun)) if start.null_count else start).to_numpy()
        more = max(0, int(placed.groups.max()) + 1 - len(self._firsts))
        self._firsts = np.append(self._firsts, np.full(more, _NEVER))
        self._lasts = np.append(self._lasts, np.zeros(more, np.int64))
        np.minimum.at(self._firsts, group, begun)
        np.maximum.at(self._lasts, group, rows.times)
        for name in DIMENSIONS:
            if name not in names:
                continue
            codes, values = rows.codes(name)
            said = self._said[name]
            for number, code in set(zip(placed.groups.tolist(), codes[placed.rows].tolist())):
                text = values[code] or ""
                if text > said.get(number, "") and text != _UNLOGGED.get(name):
                    said[number] = text

    def finish(
        self, group_of: Ints, groups: int, origin: Origin
    ) -> tuple[list[int], list[int], list[Mapping[str, str]]]:
        """Return the first times, the last times and the dimensions by group; ``group_of`` maps what was added."""
        firsts, lasts = np.full(groups, _NEVER), np.zeros(groups, np.int64)
        met = np.flatnonzero(self._firsts < _NEVER)
        np.minimum.at(firsts, group_of[met], self._firsts[met])
        np.maximum.at(lasts, group_of[met], self._lasts[met])
        found = {name: [""] * groups for name in DIMENSIONS}
        places = group_of.tolist()
        for name, said in self._said.items():
            texts = found[name]
            for group, text in said.items():
                texts[places[group]] = max(texts[places[group]], text)
        found["account_id"] = [value or origin.account_id for value in found["account_id"]]
        found["region"] = [value or origin.region for value in found["region"]]
        dimensions: list[Mapping[str, str]] = [
            {name: value for name, value in zip(found, values) if value} for values in zip(*found.values())
        ]
        return firsts.tolist(), lasts.tolist(), dimensions


def _keys(rows: Rows) -> tuple[Places, list[tuple[str, str] | None]]:
    """Return for each row the place of its key, and the keys as (type, value); None where a row names none."""
    size = rows.batch.num_rows
    local: Places = np.zeros(size, np.int64)
    keys: list[tuple[str, str] | None] = [None]
    for key_type, name in KEY_COLUMNS.items():
        if name not in rows.batch.schema.names:
            continue
        codes, values = rows.codes(name)
        named = [None if value is None else (key_type, value) for value in values]
        if None not in named and len(keys) == 1:
            return codes, [*named]
        places = np.where([key is not None for key in named], np.arange(len(named)) + len(keys), 0)[codes]
        local = np.where(local == 0, places, local)
        keys += named
    return local, keys
