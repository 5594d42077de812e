"""Thrift's compact protocol, as far as measuring a Parquet file needs it: bytes in, the wanted members of a struct out.

What it takes and what it passes over is what Parquet's own reader does, down to a member that comes twice or with
another type than it has: a file must not look smaller here than it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

I32, I64, LIST, STRUCT = 5, 6, 9, 12
_STOP, _BYTE, _I16, _DOUBLE, _BINARY, _SET = 0, 3, 4, 7, 8, 10
_BOOLEANS, _INTEGERS = (1, 2), (_I16, I32, I64)
_SIZES = {1: 1, 2: 1, _BYTE: 1, _DOUBLE: 8}  # a boolean within a list is a byte
_DEPTH = 12
_SMALLEST = 16
"""Bytes that a wanted struct within a list has at least; an empty one of a single byte would become one of hundreds."""

Wanted: TypeAlias = "Mapping[tuple[int, int], Wanted]"
"""The wanted members of a struct by type and number; of a struct, or a list of structs, those wanted of it."""


class ThriftError(ValueError):
    """The bytes are no struct."""


class ThriftReader:
    """Reads structs that follow each other; ``position`` is where the next one begins."""

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._data = data

    def struct(self, wanted: Wanted, depth: int = 0) -> dict[int, Any]:
        """Return the wanted members that the next struct has, by their numbers. Raises ThriftError."""
        if depth > _DEPTH:
            raise ThriftError("structs within structs within structs")
        found: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            kind = head & 15
            if kind == _STOP:
                return found
            number += head >> 4 if head >> 4 else self._integer() - number
            number = (number + (1 << 15)) % (1 << 16) - (1 << 15)  # a number has 16 bits, whatever is written
            inner = wanted.get((kind, number))
            if kind in _BOOLEANS:
                continue
            if inner is None:
                self._skip(kind, depth)
            elif kind == STRUCT:
                found[number] = self.struct(inner, depth + 1)
            elif kind == LIST:
                found[number] = self._structs(inner, depth + 1)
            else:
                found[number] = self._integer()

    def _structs(self, wanted: Wanted, depth: int) -> list[dict[int, Any]]:
        size, _ = self._list_head()
        if size * _SMALLEST > len(self._data):
            raise ThriftError(f"a list of {size} structs in {len(self._data)} bytes")
        return [self.struct(wanted, depth) for _ in range(size)]

    def _skip(self, kind: int, depth: int) -> None:
        if kind in _INTEGERS:
            self._varint()
        elif kind == STRUCT:
            self.struct({}, depth + 1)
        elif kind in (LIST, _SET):
            if depth > _DEPTH:
                raise ThriftError("lists within lists within lists")
            size, kind = self._list_head()
            for _ in range(size):
                self._skip(kind, depth + 1)
        elif kind == _BINARY or kind in _SIZES:
            size = self._varint() if kind == _BINARY else _SIZES[kind]
            self.position += size
            if self.position > len(self._data):
                raise ThriftError("the bytes end within a struct")
        else:
            raise ThriftError(f"no type has the number {kind}")

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return (head >> 4 if head >> 4 < 15 else self._varint()), head & 15

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise ThriftError("the bytes end within a struct")
        byte = self._data[self.position]
        self.position += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ThriftError("a number of more than 64 bits")

    def _integer(self) -> int:
        zigzag = self._varint()
        return (zigzag >> 1) ^ -(zigzag & 1)
