"""Rows by group, without sorting them: numbers of groups and values of rows in; distinct groups and exact sums out.

Numbers are integers all the way: a sum that 64 bits might not hold is Python's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_flowlogs.kernel import numbers

Ints = npt.NDArray[np.int64]

_DENSE = 1 << 16
"""Codes up to which a table of all that there might be is cheaper than sorting."""


class Sums(NamedTuple):
    """Sums over rows of one roll-up and class: both as numbers, and the three sums."""

    code: Ints
    flows: Ints
    bytes: Ints
    packets: Ints


def integers(column: pa.Array | None, size: int) -> Ints:
    """Return a column as numbers, 0 where it is null; of a column that is not logged, so many zeros."""
    return np.zeros(size, np.int64) if column is None else numbers(column)


def first_at(local: Ints, size: int, rows: Ints | None) -> Ints:
    """Return of each of ``size`` groups the first of some rows (None: of all) that is its own; -1 where none is."""
    first = np.full(size, -1)
    backwards = (np.arange(len(local)) if rows is None else rows)[::-1]
    first[local[backwards]] = backwards  # of several rows of a group, the last one that is written stays
    return first


def distinct(codes: Ints, limit: int) -> tuple[Ints, Ints]:
    """Return the distinct ones of codes, ascending, and for each code which of them it is; all are below ``limit``."""
    if limit > max(_DENSE, 4 * len(codes)):
        return np.unique(codes, return_inverse=True)
    there = np.zeros(limit, bool)
    there[codes] = True
    met = np.flatnonzero(there)
    place = np.empty(limit, np.int64)
    place[met] = np.arange(len(met))
    return met, place[codes]


def sums_at(at: Ints, size: int, values: Ints) -> Ints:
    """Return the sum of the values at each of ``size`` places."""
    values = roomy(values)
    sums = np.zeros(size, values.dtype)
    np.add.at(sums, at, values)
    return sums


def run_starts(ordered: Ints) -> Ints:
    """Return where each run of equal numbers begins."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


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
