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

from beam_flowlogs.addresses import Addresses
from beam_flowlogs.distinct import U64, scramble
from beam_flowlogs.grouped import Ints, distinct, integers
from beam_flowlogs.row_classes import Placed
from beam_flowlogs.rows import Rows
from beam_flowlogs.top_list import Label

Bools = npt.NDArray[np.bool_]
Columns = Mapping[str, pa.Array]
Numbers = npt.NDArray[Any]


class HashedColumn(NamedTuple):
    """A column of a batch: a hash of each value, whether there is one, and the values by place: addresses by their keys
    (``addresses.text_of``), others as they are logged.
    """

    hashes: U64
    there: Bools
    value_of: Label


class HashedRows(NamedTuple):
    """Rows of a batch, those ``at`` some places (None: all); ``group`` is of these alone, all else of the batch."""

    group: Ints
    columns: Columns
    addresses: Mapping[str, Addresses]
    at: Ints | None = None

    @classmethod
    def of(cls, placed: Placed, rows: Rows, at: Ints | None = None) -> HashedRows:
        """Return rows, those at some places, with the roll-ups that they are placed in."""
        return cls(placed.groups.take(placed.at if at is None else placed.at[at]), rows.columns, rows.addresses, at)

    def address(self, name: str) -> HashedColumn | None:
        """Return a column of addresses; None where it is not logged."""
        parsed = self.addresses.get(name)
        if parsed is None:
            return None
        parsed = parsed if self.at is None else parsed.pick(self.at)
        packed, is_v6, valid = parsed
        halves = np.ascontiguousarray(packed).view(np.uint64)
        hashes = scramble(halves[:, 0] + is_v6)
        if is_v6.any():
            hashes = np.where(is_v6, scramble(hashes ^ halves[:, 1]), hashes)
        return HashedColumn(hashes, valid, parsed.keys)

    def port(self, name: str) -> HashedColumn | None:
        """Return a column of ports; None where it is not logged."""
        return self.number(name) if name in self.columns else None

    def number(self, name: str) -> HashedColumn:
        """Return a column of numbers; of one that is not logged, no row has a value."""
        column, size = self.columns.get(name), len(self.group)
        values = self._chosen(integers(column, size)) if column is not None else np.zeros(size, np.int64)
        return self.column(name, values.astype(np.uint64) + np.uint64(1))

    def column(self, name: str, values: U64) -> HashedColumn:
        """Return a column by numbers that stand for its values, of which not every row may have one."""
        hashes, column = scramble(values), self.columns.get(name)
        if column is None:
            return HashedColumn(hashes, np.zeros(len(values), bool), pa.nulls(len(values)).take)
        valid = pc.is_valid(column).to_numpy(zero_copy_only=False) if column.null_count else None
        there = np.ones(len(values), bool) if valid is None else self._chosen(valid)
        return HashedColumn(hashes, there, self._value_of(name))

    def _value_of(self, name: str) -> Label:
        take: Label = self.columns[name].take
        return take if self.at is None else at_places(self.at, take)

    def _chosen(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if self.at is None else values.take(self.at)


class GatheredRows:
    """Some rows of each of several batches, brought together: to count few takes nearly as long as to count many.

    Of their columns those are kept that are named, of addresses what they were parsed to.
    """

    def __init__(self, addresses: Sequence[str], columns: Sequence[str]) -> None:
        self.size = 0
        self._addresses, self._columns = addresses, columns
        self._held: list[tuple[Ints, Columns, Mapping[str, Addresses], Sequence[Numbers]]] = []

    def add(self, rows: HashedRows, *numbers: Numbers) -> None:
        """Keep rows, of those columns that are there, and numbers of each of them."""
        if len(rows.group):
            at = np.arange(len(rows.group)) if rows.at is None else rows.at
            columns = {name: rows.columns[name].take(pa.array(at)) for name in self._columns if name in rows.columns}
            addresses = {name: known.pick(at) for name, known in rows.addresses.items() if name in self._addresses}
            self._held.append((rows.group, columns, addresses, numbers))
            self.size += len(at)

    def take(self) -> tuple[HashedRows, list[Numbers]]:
        """Return what is kept, at least one row, with its numbers; and keep no more of it."""
        groups, columns, addresses, numbers = zip(*self._held)
        self._held, self.size = [], 0
        together = {name: pa.concat_arrays([batch[name] for batch in columns]) for name in columns[0]}
        parsed = {
            name: Addresses(*map(np.concatenate, zip(*(each[name] for each in addresses)))) for name in addresses[0]
        }
        return HashedRows(np.concatenate(groups), together, parsed), [np.concatenate(each) for each in zip(*numbers)]


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
    code = scramble(group.astype(np.uint64))
    for column in columns:
        code = scramble(code ^ column.hashes)
    first = np.zeros(len(group), np.int64)
    first[distinct(code)[0]] = 1
    return first
