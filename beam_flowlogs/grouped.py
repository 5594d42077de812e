"""Rows by group, without sorting them: numbers of groups and values of rows in; distinct groups and exact sums out.

Numbers are integers all the way: a sum that 64 bits might not hold is Python's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_flowlogs import kernel

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.integer[Any]]


_MOST_CODES = 1 << 31
"""The kernel's codes have 32 bits."""
_INT64 = np.iinfo(np.int64)


class Tally(NamedTuple):
    """What the rows at each place come to: how many they are, their sums, their first and their last time."""

    flows: Ints
    bytes: Ints
    packets: Ints
    firsts: Ints
    lasts: Ints


class Sums(NamedTuple):
    """Sums over rows of one roll-up and class: both as numbers, and the three sums."""

    code: Ints
    flows: Ints
    bytes: Ints
    packets: Ints


def integers(column: pa.Array | None, size: int) -> Ints:
    """Return a column as numbers, 0 where it is null; of a column that is not logged, so many zeros."""
    return np.zeros(size, np.int64) if column is None else kernel.number_buffers(column)[0]


def numbered(columns: Sequence[tuple[Places, int]]) -> tuple[Ints, Places]:
    """Return a row of each distinct combination of codes, and for each row which of them is its own.

    Of each column ``columns`` holds the rows' codes, and how many there may be.
    """
    size = len(columns[0][0])
    if kernel.compiled and all(count <= _MOST_CODES for _, count in columns):
        at = np.empty(size, np.int32)
        codes = [np.ascontiguousarray(column, np.int32) for column, _ in columns]
        rows = kernel.compiled.number_combinations(codes, [count for _, count in columns], at)
        return np.array(rows, np.int64), at
    together, limit = np.zeros(size, np.int64), 1
    for column, count in columns:
        if limit * count >> 62:
            met, places = np.unique(together, return_inverse=True)
            together, limit = places.astype(np.int64), len(met)
        together, limit = together * count + column, limit * count
    return _by_sorting(together)


def distinct(values: npt.NDArray[np.uint64]) -> tuple[Ints, Places]:
    """Return the first row of each distinct value, and for each row which of them is its own."""
    if kernel.compiled:
        at = np.empty(len(values), np.int32)
        rows = kernel.compiled.code_numbers(values.view(np.int64), None, len(values), at)
        return np.array(rows, np.int64), at
    return _by_sorting(values)


def _by_sorting(values: npt.NDArray[Any]) -> tuple[Ints, Places]:
    _, rows, at = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(rows)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rows[order], rank[at]


def tallied(at: Places, size: int, measures: tuple[Ints, Ints], firsts: Ints, lasts: Ints) -> Tally:
    """Return what rows come to at each of ``size`` places: ``measures`` are their bytes and packets, then times."""
    if kernel.compiled:
        found = np.empty((len(Tally._fields), size), np.int64)
        if kernel.compiled.tally(np.ascontiguousarray(at, np.int32), measures, firsts, lasts, found):
            return Tally(*found)
    first, last = np.full(size, _INT64.max), np.full(size, _INT64.min)
    np.minimum.at(first, at, firsts)
    np.maximum.at(last, at, lasts)
    octets, packets = (sums_at(at, size, values) for values in measures)
    return Tally(np.bincount(at, minlength=size), octets, packets, first, last)


def sums_at(at: Places, size: int, values: Ints) -> Ints:
    """Return the sum of the values at each of ``size`` places."""
    values = roomy(values)
    sums = np.zeros(size, values.dtype)
    np.add.at(sums, at, values)
    return sums


def run_starts(ordered: Ints) -> Ints:
    """Return where each run of equal numbers begins; of none, there is none."""
    return np.flatnonzero(np.append(np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1]))


def ranked(groups: Ints, sizes: Ints, items: npt.NDArray[np.uint64]) -> Ints:
    """Return the places of rows in order: by group, of one the biggest first, and of one size by item."""
    if kernel.compiled:
        order = np.empty(len(groups), np.int64)
        kernel.compiled.rank(groups, sizes, items, order)
        return order
    return np.lexsort((items, -sizes, groups))


def together(sums: Sequence[Sums]) -> Sums:
    """Return sums of several batches as one, some of them of the same roll-up and class."""
    return Sums(*map(np.concatenate, zip(*sums)))


def roomy(values: Ints) -> Ints:
    """Return values whose sum cannot overflow: as Python's integers if 64 bits might not hold it."""
    return values.astype(object) if len(values) and int(values.max()) * len(values) >> 63 else values


def summed(sums: Sums) -> Sums:
    """Return the sums of each roll-up and class as one."""
    order = np.argsort(sums.code, kind="stable")
    code = sums.code[order]
    starts = run_starts(code)
    return Sums(code[starts], *(np.add.reduceat(roomy(values)[order], starts) for values in sums[1:]))
