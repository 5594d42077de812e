"""The columns of a Parquet record batch as they were stored, and how they become a flow log's fields.

Text columns are read as indices into their distinct words. So a column costs what its pages do, however often it
repeats a word, and what is wrong with a word is found once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.fields import Field
from beam_flowlogs.inflate import DecodeError
from beam_flowlogs.rows import Fault, number_fault

_PART_BYTES = 16 << 20
"""Most text in what is handed on, once every row has its own."""
_ABSENT = pa.array(["-", ""])
_SMALL_NUMBER = "^-?[0-9]{1,9}$"


class Words(NamedTuple):
    """A column of text: for each row the index of its word (null: absent), and the words as bytes."""

    indices: pa.Int32Array
    words: pa.BinaryArray

    def __len__(self) -> int:
        return len(self.indices)

    def slice(self, start: int, stop: int) -> Words:
        """Return some of the rows."""
        return Words(self.indices[start:stop], self.words)

    def text(self, at: int) -> bytes | None:
        """Return one row's word."""
        index = self.indices[at].as_py()
        return None if index is None else self.words[index].as_py()

    def typed(self, field: Field, faults: dict[int, Fault]) -> pa.Array:
        """Return the rows' values in the field's type, absent ones as null; note the rows whose word does not fit."""
        bad: dict[int, Fault] = {}
        words = _decoded(self.words, field, bad)
        words = pc.if_else(pc.is_in(words, value_set=_ABSENT), pa.scalar(None, pa.string()), words)
        if field.kind.is_number:
            words = _numbers(words, field, bad)
        if bad:
            indices = pc.fill_null(self.indices, -1).to_numpy()
            for at in np.flatnonzero(np.isin(indices, list(bad))).tolist():
                faults.setdefault(at, bad[int(indices[at])])
        return words.take(self.indices)


class Numbers(NamedTuple):
    """A column of integers."""

    values: pa.Array

    def __len__(self) -> int:
        return len(self.values)

    def slice(self, start: int, stop: int) -> Numbers:
        """Return some of the rows."""
        return Numbers(self.values[start:stop])

    def text(self, at: int) -> bytes | None:
        """Return one row's number in decimal."""
        value = self.values[at].as_py()
        return None if value is None else str(value).encode()

    def typed(self, field: Field, faults: dict[int, Fault]) -> pa.Array:
        """Return the rows' values in the field's type; note the rows whose number does not fit."""
        try:
            return self.values.cast(field.kind.arrow)
        except pa.ArrowInvalid:
            values = self.values.to_pylist()
            for at, value in enumerate(values):
                fault = None if value is None else number_fault(field, str(value))
                if fault is not None:
                    faults.setdefault(at, fault)
                    values[at] = None
            return pa.array(values, field.kind.arrow)


Column: TypeAlias = "Words | Numbers"


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of a Parquet file holds text, or bytes that may be text."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)


def parts_of(batch: pa.RecordBatch, line_bytes: int) -> Iterator[list[Column]]:
    """Yield a batch's columns, cut so that no part unfolds to much more than 16 MiB; most batches need no cut.

    Raises DecodeError (``line-too-long``) at a row whose text is longer than ``line_bytes``.
    """
    columns = [_column(column) for column in batch.columns]
    texts = [column for column in columns if isinstance(column, Words)]
    lengths = [pc.binary_length(column.words) for column in texts]
    longest = sum(pc.max(length).as_py() or 0 for length in lengths)
    if longest <= line_bytes and longest * batch.num_rows <= _PART_BYTES:
        yield columns
        return
    sizes = np.zeros(batch.num_rows, np.int64)
    for column, length in zip(texts, lengths):
        sizes += pc.fill_null(length.take(column.indices), 0).to_numpy()
    too_long = np.flatnonzero(sizes > line_bytes)
    end = int(too_long[0]) if len(too_long) else batch.num_rows
    parts = np.cumsum(sizes) // _PART_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(parts[:end])) + 1).tolist(), end]
    for start, stop in pairwise(cuts):
        if start < stop:
            yield [column.slice(start, stop) for column in columns]
    if len(too_long):
        raise DecodeError("line-too-long", f"a row holds more than {line_bytes} bytes: is it a flow log?")


def _column(column: pa.Array) -> Column:
    if not pa.types.is_dictionary(column.type):
        return Numbers(column)
    indices, words = column.indices, column.dictionary
    if len(words) > 2 * len(indices):
        used = pc.drop_null(pc.unique(indices))
        indices, words = pc.index_in(indices, value_set=used), words.take(used)
    return Words(indices, words.cast(pa.binary()))


def _decoded(words: pa.BinaryArray, field: Field, bad: dict[int, Fault]) -> pa.StringArray:
    """Return words as strings: a file may call text what is no UTF-8."""
    try:
        return words.cast(pa.string())
    except pa.ArrowInvalid:
        known = words.to_pylist()
        for at, word in enumerate(known):
            try:
                word.decode()
            except UnicodeDecodeError:
                bad[at] = ("not-utf-8", f"{field.name} holds bytes that are no UTF-8")
                known[at] = None
        return pa.array(known, pa.binary()).cast(pa.string())


def _numbers(words: pa.StringArray, field: Field, bad: dict[int, Fault]) -> pa.Array:
    """Return words as numbers; those of few digits are known to fit."""
    plain = pc.fill_null(pc.match_substring_regex(words, _SMALL_NUMBER), True).to_numpy(zero_copy_only=False)
    if not plain.all():
        known = words.to_pylist()
        for at in np.flatnonzero(~plain).tolist():
            fault = number_fault(field, known[at])
            if fault is not None:
                bad[at] = fault
                known[at] = None
        words = pa.array(known, pa.string())
    return words.cast(field.kind.arrow)
