"""Some rows of a batch, by what tells them apart: columns as a hash of each value, with the texts behind them.

What counts distinct values, or lists the biggest, compares hashes; texts are fetched of the few rows that are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.coded import Coded
from beam_flowlogs.distinct import U64, scramble
from beam_flowlogs.grouped import Ints, distinct, integers
from beam_flowlogs.rows import Rows, concatenated
from beam_flowlogs.top_list import Label

Bools = npt.NDArray[np.bool_]
Columns = Mapping[str, pa.Array]


class HashedColumn(NamedTuple):
    """A column of a batch: a hash of each value, whether there is one, and the values as they are logged, by place."""

    hashes: U64
    there: Bools
    text_of: Label


class HashedRows(NamedTuple):
    """Rows of a batch, those ``at`` some places (None: all); ``group`` is of these alone."""

    group: Ints
    rows: Rows
    columns: Columns
    at: Ints | None = None

    def address(self, name: str) -> HashedColumn | None:
        """Return a column of addresses; None where it is not logged."""
        parsed = self.rows.addresses.get(name)
        if parsed is None:
            return None
        packed, is_v6, valid = parsed if self.at is None else parsed.pick(self.at)
        halves = np.ascontiguousarray(packed).view(np.uint64)
        hashes = scramble(halves[:, 0] + is_v6)
        if is_v6.any():
            hashes = np.where(is_v6, scramble(hashes ^ halves[:, 1]), hashes)
        return HashedColumn(hashes, valid, self._text_of(name))

    def port(self, name: str) -> HashedColumn | None:
        """Return a column of ports; None where it is not logged."""
        return self.number(name) if name in self.columns else None

    def number(self, name: str) -> HashedColumn:
        """Return a column of numbers; of one that is not logged, no row has a value."""
        values = self._chosen(integers(self.columns.get(name), len(self.rows.numbers)))
        return self._column(name, scramble(values.astype(np.uint64) + np.uint64(1)))

    def action(self) -> HashedColumn:
        """Return the action, by whether it is a refusal."""
        return self._column("action", scramble(self._chosen(are_rejected(self.rows)).astype(np.uint64)))

    def _text_of(self, name: str) -> Label:
        take: Label = self.columns[name].take
        return take if self.at is None else at_places(self.at, take)

    def _column(self, name: str, hashes: U64) -> HashedColumn:
        """Return a column of hashes, which not every row may have, and not every flow log."""
        size = len(hashes)
        column = self.columns.get(name)
        if column is None:
            return HashedColumn(hashes, np.zeros(size, bool), pa.nulls(size).take)
        valid = pc.is_valid(column).to_numpy(zero_copy_only=False) if column.null_count else None
        return HashedColumn(hashes, np.ones(size, bool) if valid is None else self._chosen(valid), self._text_of(name))

    def _chosen(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if self.at is None else values.take(self.at)


class GatheredRows:
    """Some rows of each of several batches, brought together: to count few takes nearly as long as to count many."""

    def __init__(self, names: Sequence[str]) -> None:
        self.size = 0
        self._names = names
        self._held: list[tuple[Ints, Rows]] = []

    def add(self, group: Ints, rows: Rows, at: Ints) -> int:
        """Keep the rows at some places, and return how many are kept now."""
        self._held.append((group[at], rows.at(at, self._names)))
        self.size += len(at)
        return self.size

    def take(self) -> HashedRows:
        """Return what is kept, and keep no more of it."""
        groups, batches = zip(*self._held)
        self._held, self.size = [], 0
        rows = concatenated(batches)
        return HashedRows(np.concatenate(groups), rows, dict(zip(rows.batch.schema.names, rows.batch.columns)))


def either(first: Bools, one: HashedColumn, other: HashedColumn) -> HashedColumn:
    """Return the values of ``one`` where ``first`` says so, else those of ``other``."""
    return HashedColumn(
        np.where(first, one.hashes, other.hashes),
        np.where(first, one.there, other.there),
        lambda at: pc.if_else(pa.array(first[at]), one.text_of(at), other.text_of(at)),
    )


def at_places(places: Ints, text_of: Label) -> Label:
    """Return the texts of those rows that are at ``places``."""
    return lambda at: text_of(places[at])


def are_rejected(rows: Rows) -> Bools:
    """Return which rows are of refused flows."""
    if "action" not in rows.batch.schema.names:
        return np.zeros(rows.batch.num_rows, bool)
    action = rows.by_value("action")
    values = action.values if isinstance(action, Coded) else action
    refused: Bools = pc.fill_null(pc.equal(values, "REJECT"), False).to_numpy(zero_copy_only=False)
    return refused.take(action.codes) if isinstance(action, Coded) else refused


def first_of_each(group: Ints, *columns: HashedColumn) -> Ints:
    """Return 1 for the first row of each group and combination of values, 0 for every other row."""
    code = scramble(group.astype(np.uint64))
    for column in columns:
        code = scramble(code ^ column.hashes)
    first = np.zeros(len(group), np.int64)
    first[distinct(code)[0]] = 1
    return first
