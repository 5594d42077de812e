"""The biggest few of a group, exactly where the group is small: built from columns, added up across objects.

Frequent items in the manner of Misra and Gries, but each object's entries are exact: what does not fit is dropped, and
the largest number dropped is kept as the most that any entry, or any item not listed, may be short by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_flowlogs.addresses import text_of
from beam_flowlogs.distinct import U64, chained
from beam_flowlogs.grouped import Ints, Places, distinct, ranked, run_starts, sums_at

LISTED = 10
"""Entries that a part and a roll-up list, unless more are asked for."""
_HELD = 32
"""Entries of a group that are kept when those of one group and item are brought together."""
_COMPACT_AT = 200_000
"""Entries that are held before they are."""

Label = Callable[[Ints], pa.Array]
"""Gives the label of the rows at some places. Few rows of many are listed, so labels are fetched for those alone."""


class _Entries(NamedTuple):
    groups: Ints
    items: U64
    labels: tuple[Label, ...]
    values: tuple[Ints, ...]


class TopList:
    """Collects the biggest items of each group, batch by batch.

    An item has ``labels`` (what it is called) and ``values``, the first of which ranks it. ``largest`` are the
    positions of values that are added up within a batch, but of which the largest of all batches is kept. ``listed``
    is how many entries a list has at most.
    """

    def __init__(self, largest: Sequence[int] = (), listed: int = LISTED) -> None:
        self._largest = largest
        self._listed = listed
        self._most_held = _HELD * max(1, listed // LISTED)
        self._pending: list[_Entries] = []
        self._held = self._kept = 0
        self._dropped = np.zeros(0, np.int64)

    def add(self, groups: Ints, items: U64, labels: Sequence[Label], values: Sequence[Ints]) -> None:
        """Count rows in: the group of each, a hash that tells its item, and the item's labels and values."""
        if not len(groups):
            return
        found = _added_up(_Entries(groups, items, tuple(labels), tuple(values)), ())
        self._pending.append(found)
        self._held += len(found.groups)
        if self._held > max(_COMPACT_AT, 2 * self._kept):  # else many groups would be brought together anew each time
            found = self._biggest(_added_up(self._together(), self._largest))
            self._pending = [found]
            self._held = self._kept = len(found.groups)

    def finish(self, group_of: Ints, groups: int) -> list[list[Any] | None]:
        """Return for each of ``groups`` groups ``[dropped, entry, ...]``, or None if it has no entry.

        ``group_of`` maps the groups that were added to those asked for. An entry is its labels and its values; one that
        comes to 0, since what it counts cancelled out, is left out.
        """
        if not self._pending:
            return [None] * groups
        together = self._together()
        summed = together._replace(groups=group_of[together.groups])
        if len(self._pending) > 1 or groups < len(group_of):  # else each item of each group is there once
            summed = _added_up(summed, self._largest)
        found, last_dropped = _biggest(_at(summed, np.flatnonzero(summed.values[0])), self._listed)
        dropped = np.zeros(groups, np.int64)
        which = np.flatnonzero(self._dropped)
        np.add.at(dropped, group_of[which], self._dropped[which])
        np.add.at(dropped, *last_dropped)
        columns = [_texts(label(np.arange(len(found.groups)))) for label in found.labels]
        columns += [value.tolist() for value in found.values]
        entries = list(map(list, zip(*columns)))
        lists: list[list[Any] | None] = [None] * groups
        starts = run_starts(found.groups).tolist()
        for begin, end in pairwise([*starts, len(entries)]):
            group = int(found.groups[begin])
            lists[group] = [int(dropped[group]), *entries[begin:end]]
        return lists

    def _biggest(self, found: _Entries) -> _Entries:
        found, dropped = _biggest(found, self._most_held)
        which, most = dropped
        size = max(len(self._dropped), int(found.groups.max()) + 1)
        self._dropped = np.append(self._dropped, np.zeros(size - len(self._dropped), np.int64))
        np.add.at(self._dropped, which, most)
        return found

    def _together(self) -> _Entries:
        pending = self._pending
        return _Entries(
            np.concatenate([entries.groups for entries in pending]),
            np.concatenate([entries.items for entries in pending]),
            tuple(
                pa.concat_arrays(
                    [label(np.arange(len(entries.groups))) for label, entries in zip(labels, pending)]
                ).take
                for labels in zip(*(entries.labels for entries in pending))
            ),
            tuple(np.concatenate(arrays) for arrays in zip(*(entries.values for entries in pending))),
        )


def _texts(labels: pa.Array) -> list[Any]:
    """Return labels as a roll-up shows them."""
    if not pa.types.is_fixed_size_binary(labels.type):
        return labels.to_pylist()
    met = labels.dictionary_encode()
    return pa.array(list(map(text_of, met.dictionary.to_pylist()))).take(met.indices).to_pylist()


def _added_up(rows: _Entries, largest: Sequence[int]) -> _Entries:
    """Return each item of each group once, with its values added up."""
    examples, at = distinct(chained(rows.items, rows.groups.astype(np.uint64)))
    values = tuple(
        (_largest_at if place in largest else _sums_at)(at, len(examples), value)
        for place, value in enumerate(rows.values)
    )
    labels = tuple(label(examples).take for label in rows.labels)
    return _Entries(rows.groups[examples], rows.items[examples], labels, values)


def _largest_at(at: Places, size: int, values: Ints) -> Ints:
    found = np.zeros(size, np.int64)
    np.maximum.at(found, at, values)
    return found


def _sums_at(at: Places, size: int, values: Ints) -> Ints:
    """Return exact sums, and the largest number there is where 64 bits do not hold one."""
    return np.minimum(sums_at(at, size, values), np.iinfo(np.int64).max).astype(np.int64)


def _biggest(found: _Entries, count: int) -> tuple[_Entries, tuple[Ints, Ints]]:
    """Return the ``count`` biggest items of each group, biggest first; and by group the size of the first left out."""
    sizes = np.abs(found.values[0])
    order = ranked(found.groups, sizes, found.items)
    in_order = found.groups[order]
    begins = run_starts(in_order)
    ranks = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    chosen, left_out = order[ranks < count], order[ranks == count]
    return _at(found, chosen), (found.groups[left_out], sizes[left_out])


def _at(entries: _Entries, places: Ints) -> _Entries:
    """Return the entries at some places."""
    labels = tuple(label(places).take for label in entries.labels)
    values = tuple(value[places] for value in entries.values)
    return _Entries(entries.groups[places], entries.items[places], labels, values)


def add_up(lists: Iterable[Sequence[Any]], labels: int, largest: Sequence[int] = (), listed: int = LISTED) -> list[Any]:
    """Return lists of several objects, each as ``TopList.finish`` gave it, as one: ``[dropped, entry, ...]``."""
    dropped = 0
    sums: dict[tuple[Any, ...], list[int]] = {}
    for short_by, *entries in lists:
        dropped += short_by
        for entry in entries:
            known = sums.setdefault(tuple(entry[:labels]), [])
            values = entry[labels:]
            known[:] = [
                max(mine, value) if place in largest else mine + value
                for place, (mine, value) in enumerate(zip(known or [0] * len(values), values))
            ]
    biggest = sorted(
        sums.items(), key=lambda item: (-abs(item[1][0]), [(label is not None, label) for label in item[0]])
    )
    if len(biggest) > listed:
        dropped += abs(biggest[listed][1][0])
    return [dropped, *([*name, *values] for name, values in biggest[:listed])]


def as_objects(listed: Sequence[Any], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the entries of a list as documents name them."""
    return [dict(zip(names, entry)) for entry in listed[1:]]
