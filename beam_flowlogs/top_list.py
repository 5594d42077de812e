"""The biggest few of a group, exactly where the group is small: built from columns, added up across objects.

Frequent items in the manner of Misra and Gries, but each object's entries are exact: what does not fit is dropped, and
the largest number dropped is kept as the most that any entry, or any item not listed, may be short by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_flowlogs.distinct import U64, scramble

LISTED = 10
"""Entries that a part and a roll-up list."""
_HELD = 32
"""Entries that are held of each group until its object ends."""

Ints = npt.NDArray[np.int64]


class _Entries(NamedTuple):
    groups: Ints
    items: U64
    labels: tuple[pa.Array, ...]
    values: tuple[Ints, ...]


class TopList:
    """Collects the biggest items of each group, batch by batch.

    An item has ``labels`` (what it is called) and ``values``, the first of which ranks it. ``largest`` are the
    positions of values that are added up within a batch, but of which the largest of all batches is kept.
    """

    def __init__(self, largest: Sequence[int] = ()) -> None:
        self._largest = largest
        self._pending: list[_Entries] = []
        self._dropped: list[tuple[Ints, Ints]] = []

    def add(self, groups: Ints, items: U64, labels: Sequence[pa.Array], values: Sequence[Ints]) -> None:
        """Count rows in: the group of each, a hash that tells its item, and the item's labels and values."""
        if len(groups):
            found, dropped = _biggest(_Entries(groups, items, tuple(labels), tuple(values)), _HELD, ())
            self._pending.append(found)
            self._dropped.append(dropped)

    def compact(self) -> None:
        """Bring the batches so far together."""
        if len(self._pending) > 1:
            found, dropped = _biggest(self._together(), _HELD, self._largest)
            self._pending = [found]
            self._dropped.append(dropped)

    def finish(self, group_of: Ints, groups: int) -> list[list[Any] | None]:
        """Return for each of ``groups`` groups ``[dropped, entry, ...]``, or None if it has no entry.

        ``group_of`` maps the groups that were added to those asked for. An entry is its labels and its values.
        """
        if not self._pending:
            return [None] * groups
        together = self._together()
        found, last_dropped = _biggest(together._replace(groups=group_of[together.groups]), LISTED, self._largest)
        dropped = np.zeros(groups, np.int64)
        for which, most in (*((group_of[which], most) for which, most in self._dropped), last_dropped):
            np.add.at(dropped, which, most)
        columns = [label.to_pylist() for label in found.labels] + [value.tolist() for value in found.values]
        lists: list[list[Any] | None] = [None] * groups
        most = dropped.tolist()
        for group, *entry in zip(found.groups.tolist(), *columns):
            listed = lists[group]
            if listed is None:
                lists[group] = listed = [most[group]]
            listed.append(entry)
        return lists

    def _together(self) -> _Entries:
        pending = self._pending
        return _Entries(
            np.concatenate([entries.groups for entries in pending]),
            np.concatenate([entries.items for entries in pending]),
            tuple(pa.concat_arrays(arrays) for arrays in zip(*(entries.labels for entries in pending))),
            tuple(np.concatenate(arrays) for arrays in zip(*(entries.values for entries in pending))),
        )


def _biggest(rows: _Entries, count: int, largest: Sequence[int]) -> tuple[_Entries, tuple[Ints, Ints]]:
    """Return the ``count`` biggest items of each group, biggest first; and by group the size of the first left out."""
    code = scramble(rows.items ^ scramble(rows.groups.astype(np.uint64)))
    order = np.argsort(code)
    code = code[order]
    starts = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
    values = [
        (np.maximum if place in largest else np.add).reduceat(value[order], starts)
        for place, value in enumerate(rows.values)
    ]
    sizes, groups = np.abs(values[0]), rows.groups[order[starts]]
    ranked = np.lexsort((code[starts], -sizes, groups))
    in_order = groups[ranked]
    begins = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    ranks = np.arange(len(ranked)) - np.repeat(begins, np.diff(np.append(begins, len(ranked))))
    chosen, left_out = ranked[ranks < count], ranked[ranks == count]
    examples = order[starts[chosen]]
    labels = tuple(label.take(pa.array(examples)) for label in rows.labels)
    entries = _Entries(groups[chosen], rows.items[examples], labels, tuple(value[chosen] for value in values))
    return entries, (groups[left_out], sizes[left_out])


def add_up(lists: Iterable[Sequence[Any]], labels: int, largest: Sequence[int] = ()) -> list[Any]:
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
    ranked = sorted(sums.items(), key=lambda item: (-abs(item[1][0]), item[0]))
    if len(ranked) > LISTED:
        dropped += abs(ranked[LISTED][1][0])
    return [dropped, *([*name, *values] for name, values in ranked[:LISTED])]


def as_objects(listed: Sequence[Any], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the entries of a list as documents name them."""
    return [dict(zip(names, entry)) for entry in listed[1:]]
