"""Some rows of a batch, by what tells them apart: columns as a hash of each value, with the values behind them.

What counts distinct values, or lists the biggest, compares hashes; values are fetched of the few rows that are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.addresses import Addresses
from beam_flowlogs.distinct import U64, chained, scramble
from beam_flowlogs.grouped import Ints, distinct
from beam_flowlogs.row_classes import Placed
from beam_flowlogs.rows import Rows
from beam_flowlogs.top_list import Label

Bools = npt.NDArray[np.bool_]


class HashedColumn(NamedTuple):
    """A column of some rows: a hash of each value, whether there is one, and the values by place: addresses by their
    keys (``addresses.text_of``), others as they are logged.
    """

    hashes: U64
    there: Bools
    value_of: Label


class Numbers(NamedTuple):
    """Numbers of some rows, 0 where there is none, and whether there is one."""

    values: Ints
    there: Bools


class HashedRows(NamedTuple):
    """Some rows: the number of each one's roll-up, and by name those columns that were asked for and are logged."""

    group: Ints
    addresses: Mapping[str, Addresses]
    numbers: Mapping[str, Numbers]

    @classmethod
    def of(
        cls, placed: Placed, rows: Rows, at: Ints | None = None, *, addresses: Sequence[str], numbers: Sequence[str]
    ) -> HashedRows:
        """Return rows, those at some places (None: all), with the roll-ups that they are placed in."""
        group = placed.groups.take(placed.at if at is None else placed.at.take(at))
        parsed = {name: rows.addresses[name] for name in addresses if name in rows.addresses}
        if at is not None:
            parsed = {name: known.take(at) for name, known in parsed.items()}
        logged = {name: _numbers(rows.columns[name], at) for name in numbers if name in rows.columns}
        return cls(group, parsed, logged)

    @classmethod
    def together(cls, batches: Sequence[HashedRows]) -> HashedRows:
        """Return the rows of several batches, at least one, all with the same columns, as one."""
        groups, addresses, numbers = zip(*batches)
        return cls(
            np.concatenate(groups),
            {name: Addresses(*_concatenated([batch[name] for batch in addresses])) for name in addresses[0]},
            {name: Numbers(*_concatenated([batch[name] for batch in numbers])) for name in numbers[0]},
        )

    def address(self, name: str) -> HashedColumn | None:
        """Return a column of addresses; None where it is not logged."""
        parsed = self.addresses.get(name)
        if parsed is None:
            return None
        packed, is_v6, valid = parsed
        halves = np.ascontiguousarray(packed).view(np.uint64)
        hashes = scramble(halves[:, 0] + is_v6)
        if is_v6.any():
            hashes = np.where(is_v6, scramble(hashes ^ halves[:, 1]), hashes)
        return HashedColumn(hashes, valid, parsed.keys)

    def port(self, name: str) -> HashedColumn | None:
        """Return a column of ports; None where it is not logged."""
        return self.number(name) if name in self.numbers else None

    def number(self, name: str) -> HashedColumn:
        """Return a column of numbers; of one that is not logged, no row has a value."""
        size = len(self.group)
        values, there = self.numbers.get(name) or (np.zeros(size, np.int64), np.zeros(size, bool))
        return HashedColumn(
            scramble((values.astype(np.uint64) + np.uint64(1)) * there),  # none is not 0
            there,
            lambda at: pa.array(values.take(at), mask=~there.take(at)),
        )


class GatheredRows:
    """Some rows of each of several batches, brought together: to count few takes nearly as long as to count many."""

    def __init__(self) -> None:
        self.size = 0
        self._held: list[tuple[HashedRows, tuple[npt.NDArray[Any], ...]]] = []

    def add(self, rows: HashedRows, *counts: npt.NDArray[Any]) -> None:
        """Keep rows, always with the same columns, and counts of each of them."""
        if len(rows.group):
            self._held.append((rows, counts))
            self.size += len(rows.group)

    def take(self) -> tuple[HashedRows, list[npt.NDArray[Any]]]:
        """Return what is kept, at least one row, with its counts; and keep no more of it."""
        rows, counts = zip(*self._held)
        self._held, self.size = [], 0
        return HashedRows.together(rows), _concatenated(counts)


def either(first: Bools, one: HashedColumn, other: HashedColumn) -> HashedColumn:
    """Return the values of ``one`` where ``first`` says so, else those of ``other``."""
    return HashedColumn(
        np.where(first, one.hashes, other.hashes),
        np.where(first, one.there, other.there),
        lambda at: pc.if_else(pa.array(first[at]), one.value_of(at), other.value_of(at)),
    )


def at_places(places: Ints, value_of: Label) -> Label:
    """Return the values of those rows that are at ``places``."""
    return lambda at: value_of(places[at])


def first_of_each(group: Ints, *columns: HashedColumn) -> Ints:
    """Return 1 for the first row of each group and combination of values, 0 for every other row."""
    code = chained(*[column.hashes for column in columns], group.astype(np.uint64))
    first = np.zeros(len(group), np.int64)
    first[distinct(code)[0]] = 1
    return first


def _numbers(column: pa.Array, at: Ints | None) -> Numbers:
    values, there = kernel.number_buffers(column, at)
    return Numbers(values, np.ones(len(values), bool) if there is None else there.view(bool))


def _concatenated(batches: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[npt.NDArray[Any]]:
    """Return the arrays of several batches, each as one."""
    return [np.concatenate(arrays) for arrays in zip(*batches)]
