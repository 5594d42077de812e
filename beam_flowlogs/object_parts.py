"""An object's rows in, batch by batch; its small part of each roll-up out.

A batch's rows are brought together by everything that says how they count (interface, minute, class, dimensions) and
added up once; all else is done for those combinations, of which there are few. Sums are integers all the way, so they
are exact, and what a row costs does not depend on how many numbers a roll-up has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin
from beam_flowlogs.grouped import (
    Ints,
    Places,
    Sums,
    Tally,
    numbered,
    roomy,
    run_starts,
    summed,
    tallied,
    together,
)
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rollup import DIMENSIONS, KEY_COLUMNS, Part, RollUpKey
from beam_flowlogs.rollup_details import DetailsOfObject
from beam_flowlogs.row_classes import CLASSES, COUNTED, TOLD, Placed, classes
from beam_flowlogs.rows import Rows

_COMPACT_AT = 400_000
"""Sums that are held before those of one roll-up are brought together."""
_TEXTS_KEPT = 1000
_NEVER = np.iinfo(np.int64).max
_UNLOGGED = {"account_id": "unknown"}
"""What AWS writes where it does not know a dimension."""


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
        self._held = self._kept = 0
        self._known = _Known()
        self._details = DetailsOfObject(complete=details, conversations=conversations)

    def place(self, rows: Rows) -> Placed:
        """Find the roll-ups of rows, which are not counted yet. There is at least one row.

        Raises DecodeError (``too-many-roll-ups``) where the object's would be more than it may have.
        """
        length = 1000 * self._windows[0]
        first, last = (int(time) // length for time in (rows.times.min(), rows.times.max()))
        span = last - first + 1
        known = len(self._groups)
        met, at = rows.combined(TOLD)
        if span > 1:
            met, at = numbered([(at, len(met)), (rows.times // length - first, span)])
        minutes = rows.times.take(met) // length
        key, keys = _keys(rows, met)
        examples, which = numbered([(key, len(keys)), (minutes - first, span)])
        groups = self._numbered(keys, key.take(examples).tolist(), minutes.take(examples).tolist()).take(which)
        if len(self._groups) > max(known, self._most):  # of what was placed before, some may have to be placed anew
            raise DecodeError(
                "too-many-roll-ups",
                f"its interfaces and windows are more than {self._most}: raise --max-rollups if it is genuine",
            )
        return Placed(met, groups, classes(rows, met), at)

    def add(self, rows: Rows, placed: Placed | None = None) -> None:
        """Count rows in; ``placed`` is what ``place`` gave for them."""
        if not rows.batch.num_rows:
            return
        placed = placed or self.place(rows)
        measures = rows.integers("bytes"), rows.integers("packets")
        tally = tallied(placed.at, len(placed.rows), measures, rows.starts, rows.times)
        self._known.add(placed, tally, rows)
        self._count(placed, tally)
        self._details.add(placed, rows)

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

    def _count(self, placed: Placed, tally: Tally) -> None:
        code = placed.groups * len(CLASSES) + placed.classes
        self._sums.append(Sums(code, tally.flows, tally.bytes, tally.packets))
        self._held += len(code)
        if self._held > max(_COMPACT_AT, 2 * self._kept):  # else many roll-ups would be summed anew each time
            self._sums = [summed(together(self._sums))]
            self._held = self._kept = len(self._sums[0].code)

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
        self._texts: dict[str, dict[str, int]] = {name: {"": 0} for name in DIMENSIONS}
        self._said = {name: np.zeros(0, np.int64) for name in DIMENSIONS}

    def add(self, placed: Placed, tally: Tally, rows: Rows) -> None:
        """Take a batch's rows, of which ``tally`` holds the times."""
        groups = int(placed.groups.max()) + 1
        self._firsts, self._lasts = _longer(self._firsts, groups, _NEVER), _longer(self._lasts, groups, 0)
        np.minimum.at(self._firsts, placed.groups, tally.firsts)
        np.maximum.at(self._lasts, placed.groups, tally.lasts)
        for name, known in self._texts.items():
            if name not in rows.columns:
                continue
            codes, values = rows.codes(name)
            told = ["" if value in (None, _UNLOGGED.get(name)) else value for value in values]
            numbers = np.array([known.setdefault(text, len(known)) for text in told]).take(codes.take(placed.rows))
            self._said[name] = said = _longer(self._said[name], groups, 0)
            news = np.flatnonzero(numbers != said.take(placed.groups))
            if not len(news):  # nor is any text new then: each is of some row
                continue
            texts = list(known)
            for group, number in set(zip(placed.groups[news].tolist(), numbers[news].tolist())):
                if texts[number] > texts[said[group]]:
                    said[group] = number
            if len(known) > _TEXTS_KEPT + 2 * groups:
                kept = np.unique(np.append(0, said))  # those that a roll-up says; the others are not held for ever
                self._texts[name] = {texts[number]: place for place, number in enumerate(kept.tolist())}
                self._said[name] = np.searchsorted(kept, said)

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
        for name, known in self._texts.items():
            said, texts, values = self._said[name], list(known), found[name]
            for group in np.flatnonzero(said).tolist():
                values[places[group]] = max(values[places[group]], texts[said[group]])
        found["account_id"] = [value or origin.account_id for value in found["account_id"]]
        found["region"] = [value or origin.region for value in found["region"]]
        dimensions: list[Mapping[str, str]] = [
            {name: value for name, value in zip(found, values) if value} for values in zip(*found.values())
        ]
        return firsts.tolist(), lasts.tolist(), dimensions


def _longer(values: Ints, size: int, value: int) -> Ints:
    """Return values of at least ``size`` groups, of new ones the given."""
    return values if len(values) >= size else np.append(values, np.full(size - len(values), value))


def _keys(rows: Rows, at: Ints) -> tuple[Places, list[tuple[str, str] | None]]:
    """Return for each row at some places the place of its key, and the keys as (type, value); None: it names none."""
    local: Places = np.zeros(len(at), np.int64)
    keys: list[tuple[str, str] | None] = [None]
    for key_type, name in KEY_COLUMNS.items():
        if name in rows.columns:
            codes, values = rows.codes(name)
            places = np.arange(len(keys), len(keys) + len(values))
            if None in values:
                places[values.index(None)] = 0
            local = np.where(local == 0, places.take(codes.take(at)), local)
            keys += [None if value is None else (key_type, value) for value in values]
    return local, keys
