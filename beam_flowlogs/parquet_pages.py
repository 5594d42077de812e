"""What a Parquet file would unpack to, told by its footer and its page headers before a page is unpacked.

A page is unpacked whole, into as much memory as its header asks for, whatever the footer says: a file of some kilobytes
can ask for terabytes. Both are Thrift structs (parquet-format, "File Format" and "Data Pages"). The footer is read here
and not by Arrow, whose Python bindings end the process at some of the footers that its reader refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from beam_flowlogs.inflate import DecodeError
from beam_flowlogs.thrift import I32, I64, LIST, STRUCT, ThriftError, ThriftReader, Wanted

_PAGE_BYTES = 64 << 20
"""Most that a page may unpack to. Writers cut pages at about one megabyte."""
_HEADER_BYTES = 64 << 10

# FileMetaData, and in it row_groups, columns and meta_data.
_GROUPS, _COLUMNS, _META, _ROWS, _PACKED, _DATA, _DICTIONARY = 4, 1, 3, 3, 7, 9, 11
_CHUNK: Wanted = {(I64, _PACKED): {}, (I64, _DATA): {}, (I64, _DICTIONARY): {}}
_FOOTER: Wanted = {(LIST, _GROUPS): {(LIST, _COLUMNS): {(STRUCT, _META): _CHUNK}, (I64, _ROWS): {}}}

# PageHeader, and in it the header of a data page of either version.
_PLAIN_SIZE, _PACKED_SIZE, _PAGE_1, _PAGE_2, _ENCODING_1, _ENCODING_2 = 2, 3, 5, 8, 2, 4
_PAGE: Wanted = {
    (I32, _PLAIN_SIZE): {},
    (I32, _PACKED_SIZE): {},
    (STRUCT, _PAGE_1): {(I32, _ENCODING_1): {}},
    (STRUCT, _PAGE_2): {(I32, _ENCODING_2): {}},
}
_DELTA_BYTE_ARRAY = 7
"""An encoding that Arrow cannot read as words, and that could unfold without bound. Flow logs are not written so."""


class RowGroup(NamedTuple):
    """A row group: how many rows it claims, and where each column's pages begin and end in the file."""

    rows: int
    chunks: Sequence[tuple[int, int]]


def row_groups(footer: bytes) -> list[RowGroup]:
    """Return the row groups that a footer tells of. Raises DecodeError (``parquet-broken``)."""
    try:
        found = ThriftReader(footer).struct(_FOOTER)
        groups = [
            RowGroup(group[_ROWS], [_extent(column[_META]) for column in group[_COLUMNS]]) for group in found[_GROUPS]
        ]
    except (ThriftError, KeyError) as error:
        raise DecodeError("parquet-broken", f"its footer is damaged ({error}): upload it again") from error
    if any(group.rows < 0 for group in groups):
        raise DecodeError("parquet-broken", "a row group claims a negative number of rows: upload it again")
    return groups


def _extent(chunk: dict[int, int]) -> tuple[int, int]:
    start = chunk[_DATA]
    if 0 < chunk.get(_DICTIONARY, 0) < start:
        start = chunk[_DICTIONARY]
    return start, start + chunk[_PACKED]


def plain_size(file: IO[bytes], size: int, groups: Sequence[RowGroup], most: int) -> int:
    """Return the bytes that all pages of a file of ``size`` bytes unpack to.

    It stops counting past ``most``. Raises DecodeError (``page-too-large``, ``parquet-broken``,
    ``parquet-unsupported``).
    """
    total = 0
    for start, end in (extent for group in groups if group.rows for extent in group.chunks):
        if not 0 <= start <= end <= size:
            raise DecodeError("parquet-broken", f"a column claims bytes {start} to {end} of {size}: upload it again")
        for plain in _page_sizes(file, start, end):
            total += plain
            if total > most:
                return total
    return total


def _page_sizes(file: IO[bytes], position: int, end: int) -> Iterator[int]:
    while position < end:
        file.seek(position)
        header = ThriftReader(file.read(_HEADER_BYTES))
        try:
            page = header.struct(_PAGE)
            plain, packed = page[_PLAIN_SIZE], page[_PACKED_SIZE]
        except (ThriftError, KeyError) as error:
            raise DecodeError("parquet-broken", f"no page begins at byte {position}: upload it again") from error
        if plain > _PAGE_BYTES:
            raise DecodeError("page-too-large", f"the page at byte {position} unpacks to {plain} bytes: write smaller")
        beyond = position + header.position + packed
        if plain < 0 or packed < 0 or beyond > end:
            raise DecodeError("parquet-broken", f"the page at byte {position} has an impossible size: upload it again")
        encodings = page.get(_PAGE_1, {}).get(_ENCODING_1), page.get(_PAGE_2, {}).get(_ENCODING_2)
        if _DELTA_BYTE_ARRAY in encodings:
            raise DecodeError(
                "parquet-unsupported", "a column is encoded as DELTA_BYTE_ARRAY: write it as plain or dictionary"
            )
        yield plain
        position = beyond
