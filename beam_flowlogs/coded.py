"""Columns of few distinct values as a code for each row and a value for each code.

What is done with such a column is done once for each of its values. Joined with literals and with each other they stay
coded, by the combinations that occur: most of a flow log's columns say the same few things over and over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.kernel import number_buffers, string_buffers

_MOST = 4096
"""Combinations that a batch's columns may be joined by: beyond, joining them row by row is as fast."""

_Codes = npt.NDArray[np.integer[Any]]


class Coded(NamedTuple):
    """A column: each row's code, and the value of each code; of a null value, all rows are null."""

    codes: _Codes
    values: pa.Array

    def map(self, change: Callable[[pa.Array], pa.Array]) -> Coded:
        """Return the column with other values."""
        return Coded(self.codes, change(self.values))

    def rows(self) -> pa.Array:
        """Return the column as an array with an element for each row."""
        return self.values.take(pa.array(self.codes))


def coded(column: pa.Array) -> Coded | None:
    """Return a column by its distinct values; None where it has too many for that to pay."""
    return _coded(column, max(_MOST // 4, len(column) // 8))


def by_value(column: pa.Array) -> Coded:
    """Return a column by its distinct values, however many."""
    found = _coded(column, len(column))
    assert found is not None
    return found


def _coded(column: pa.Array, most: int) -> Coded | None:
    if kernel.compiled:
        codes = np.empty(len(column), np.int32)
        if pa.types.is_integer(column.type):
            firsts = kernel.compiled.code_numbers(*number_buffers(column), most, codes)
        else:
            firsts = kernel.compiled.code_strings(*string_buffers(column), most, codes)
        return None if firsts is None else Coded(codes, column.take(pa.array(firsts, pa.uint32())))
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    if len(encoded.dictionary) > most:
        return None
    return Coded(encoded.indices.to_numpy(), encoded.dictionary)


def fold(segments: Sequence[Any], nulls: str) -> list[Any]:
    """Return segments (``bytes``, ``Coded``, arrays) to be joined, with neighbours of the first two made one.

    A null value makes the joined one null (``emit_null``), or adds nothing to it (``replace``).
    """
    folded: list[Any] = []
    run = _Run()
    for segment in segments:
        if isinstance(segment, (bytes, Coded)) and run.take(segment):
            continue
        folded += run.joined(nulls)
        run = _Run()
        if not isinstance(segment, (bytes, Coded)) or not run.take(segment):
            folded.append(segment)
    return folded + run.joined(nulls)


class _Run:
    """Literals and coded columns that follow each other; ``places`` are a combination's codes, by column."""

    def __init__(self) -> None:
        self._segments: list[bytes | Coded] = []
        self._codes: _Codes = np.zeros(0, np.int32)
        self._places: dict[int, _Codes] = {}
        self._size = 1

    def take(self, segment: bytes | Coded) -> bool:
        """Add a segment; False if that would make too many combinations."""
        if isinstance(segment, Coded) and id(segment.codes) not in self._places:
            count = len(segment.values)
            if self._size * count > _MOST:
                self._drop_unused()
                if self._size * count > _MOST:
                    return False
            self._codes = self._codes * np.int32(count) + segment.codes if self._places else segment.codes
            self._places = {key: places.repeat(count) for key, places in self._places.items()}
            self._places[id(segment.codes)] = np.tile(np.arange(count, dtype=np.int32), self._size)
            self._size *= count
        self._segments.append(segment)
        return True

    def _drop_unused(self) -> None:
        if len(self._places) < 2:
            return
        used = np.zeros(self._size, bool)
        used[self._codes] = True
        kept = np.flatnonzero(used)
        renumbered = np.empty(self._size, np.int32)
        renumbered[kept] = np.arange(len(kept), dtype=np.int32)
        self._codes = renumbered[self._codes]
        self._places = {key: places[kept] for key, places in self._places.items()}
        self._size = len(kept)

    def joined(self, nulls: str) -> list[bytes | Coded]:
        """Return the run as one segment, or as none where there is nothing in it."""
        if not self._places:
            literal = b"".join(segment for segment in self._segments if isinstance(segment, bytes))
            return [literal] if literal else []
        self._drop_unused()
        pieces = []
        literal = b""
        for segment in self._segments:
            if isinstance(segment, bytes):
                literal += segment
                continue
            if literal:
                pieces.append(pa.scalar(literal, pa.string()))
                literal = b""
            pieces.append(segment.values.take(pa.array(self._places[id(segment.codes)])))
        if literal:
            pieces.append(pa.scalar(literal, pa.string()))
        return [Coded(self._codes, pc.binary_join_element_wise(*pieces, "", null_handling=nulls))]
