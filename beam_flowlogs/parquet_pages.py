"""What a Parquet file would unpack to, told by its page headers before a page is unpacked.

A page is unpacked whole, into as much memory as its header asks for, whatever the footer says: a file of some kilobytes
can ask for terabytes. Page headers are Thrift structs in the compact protocol (parquet-format, "Data Pages").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from beam_flowlogs.inflate import DecodeError

_PAGE_BYTES = 64 << 20
"""Most that a page may unpack to. Writers cut pages at about one megabyte."""
_HEADER_BYTES = 64 << 10
_DEPTH = 8
_STOP, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 0, 3, 7, 8, 9, 10, 12
_BOOLEANS, _INTEGERS = (1, 2), (4, 5, 6)
_SIZES = {1: 1, 2: 1, _BYTE: 1, _DOUBLE: 8}  # a boolean within a list is a byte
_PLAIN_SIZE, _PACKED_SIZE = 2, 3  # fields of a page header


def plain_size(file: IO[bytes], metadata: Any, most: int) -> int:
    """Return the bytes that all pages of a file unpack to; ``metadata`` is its footer.

    It stops counting past ``most``. Raises DecodeError (``page-too-large``, ``parquet-broken``).
    """
    total = 0
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    for group in groups:
        for at in range(metadata.num_columns if group.num_rows else 0):
            column = group.column(at)
            start = column.data_page_offset
            if column.has_dictionary_page:
                start = min(start, column.dictionary_page_offset)
            for size in _page_sizes(file, start, start + column.total_compressed_size):
                total += size
                if total > most:
                    return total
    return total


def _page_sizes(file: IO[bytes], position: int, end: int) -> Iterator[int]:
    while position < end:
        file.seek(max(position, 0))
        header = _Header(file.read(_HEADER_BYTES))
        try:
            fields = header.numbers()
            plain, packed = fields[_PLAIN_SIZE], fields[_PACKED_SIZE]
        except (LookupError, RecursionError) as error:
            raise DecodeError("parquet-broken", f"no page begins at byte {position}: upload it again") from error
        if plain < 0 or packed < 0:
            raise DecodeError("parquet-broken", f"the page at byte {position} has a negative size: upload it again")
        if plain > _PAGE_BYTES:
            raise DecodeError("page-too-large", f"the page at byte {position} unpacks to {plain} bytes: write smaller")
        yield plain
        position += header.position + packed


class _Header:
    """Reads one Thrift struct; IndexError or KeyError where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def numbers(self, depth: int = 0) -> dict[int, int]:
        """Return the integers of a struct by the numbers of their fields, passing over all else."""
        if depth > _DEPTH:
            raise RecursionError
        found: dict[int, int] = {}
        field = 0
        while kind := self._byte():
            field = field + (kind >> 4) if kind >> 4 else self._integer()
            kind &= 15
            if kind in _INTEGERS:
                found[field] = self._integer()
            elif kind not in _BOOLEANS:
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in _INTEGERS:
            self._varint()
        elif kind == _STRUCT:
            self.numbers(depth + 1)
        elif kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
                self._skip(head & 15, depth + 1)
        else:
            size = self._varint() if kind == _BINARY else _SIZES[kind]
            self.position += size

    def _byte(self) -> int:
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
                raise IndexError

    def _integer(self) -> int:
        zigzag = self._varint()
        return (zigzag >> 1) ^ -(zigzag & 1)
