"""Measuring a Parquet file: what its own reader would find, and nothing smaller."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from beam_flowlogs.inflate import DecodeError
from beam_flowlogs.parquet_pages import plain_size, row_groups
from beam_flowlogs.thrift import I32, I64, LIST, STRUCT, ThriftError, ThriftReader


def _file(**options: Any) -> bytes:
    table = pa.table({"end": list(range(5000)), "action": ["ACCEPT", "REJECT"] * 2500, "nothing": pa.nulls(5000)})
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def _footer(data: bytes) -> bytes:
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


WRITERS: list[dict[str, Any]] = [
    {},
    {"compression": "none"},
    {"compression": "gzip", "row_group_size": 700},
    {"use_dictionary": False, "data_page_version": "2.0"},
    {"write_statistics": False, "version": "1.0"},
    {"write_page_index": True, "write_page_checksum": True, "data_page_size": 512},
]


@pytest.mark.parametrize("options", WRITERS, ids=str)
def test_row_groups_are_those_that_arrow_finds(options: dict[str, Any]) -> None:
    data = _file(**options)
    metadata = parquet.read_metadata(io.BytesIO(data))

    found = row_groups(_footer(data))

    assert [group.rows for group in found] == [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    for at, group in enumerate(found):
        columns = [metadata.row_group(at).column(column) for column in range(metadata.num_columns)]
        assert [end - start for start, end in group.chunks] == [column.total_compressed_size for column in columns]
        assert [start for start, _ in group.chunks] == [
            column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            for column in columns
        ]


@pytest.mark.parametrize("options", WRITERS, ids=str)
def test_pages_unpack_to_what_the_footer_says_where_it_is_honest(options: dict[str, Any]) -> None:
    data = _file(**options)
    metadata = parquet.read_metadata(io.BytesIO(data))
    said = sum(
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )

    measured = plain_size(io.BytesIO(data), len(data), row_groups(_footer(data)), 1 << 40)

    # The footer counts the headers of the pages too, some dozen bytes each.
    assert 0.4 * said < measured < said


def test_counting_stops_past_the_most() -> None:
    data = _file(row_group_size=100)
    file, groups = io.BytesIO(data), row_groups(_footer(data))

    assert 100 < plain_size(file, len(data), groups, 100) < plain_size(file, len(data), groups, 1 << 40)


def test_a_page_or_column_that_claims_more_bytes_than_there_are_is_broken() -> None:
    data = _file(compression="none")
    (group,) = row_groups(_footer(data))
    (start, end), *_ = group.chunks

    for extent in ((start, end - 1), (start, len(data) + 1), (-1, end), (end, start)):
        with pytest.raises(DecodeError, match="parquet-broken"):
            plain_size(io.BytesIO(data), len(data), [group._replace(chunks=[extent])], 1 << 40)


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_footer_that_ends_early_is_broken(cut: int) -> None:
    with pytest.raises(DecodeError, match="parquet-broken"):
        row_groups(_footer(_file())[:cut])


def test_a_member_counts_with_its_own_type_only_and_the_last_one_wins() -> None:
    # As Parquet's reader has it: I32 1 = 5, I64 1 = 7 (of another type), I32 1 = 6, stop.
    data = bytes([0x15, 10, 0x06, 2, 14, 0x05, 2, 12, 0])

    assert ThriftReader(data).struct({(I32, 1): {}}) == {1: 6}
    assert ThriftReader(data).struct({(I64, 1): {}}) == {1: 7}


def test_a_members_number_has_sixteen_bits() -> None:
    # The number 65537 in zigzag, as a varint.
    assert ThriftReader(bytes([0x05, 0x82, 0x80, 0x08, 10, 0])).struct({(I32, 1): {}}) == {1: 5}


def test_unwanted_members_of_every_type_are_passed_over() -> None:
    members = [
        b"\x11", b"\x12", b"\x13\x07", b"\x14\x02", b"\x15\x02", b"\x16\x02", b"\x17" + bytes(8), b"\x18\x03abc",
        b"\x19\x25\x02\x04", b"\x1a\x13\x01", b"\x1c\x15\x02\x00", b"\x19\xf1\x10" + b"\x01" * 16,
    ]  # fmt: skip

    assert ThriftReader(b"".join(members) + b"\x15\x0a\x00").struct({(I32, len(members) + 1): {}}) == {13: 5}


def test_lists_of_structs_are_read_in_their_order() -> None:
    data = b"\x19\x2c\x15\x02\x00\x15\x04\x00" + b"\x00" + bytes(32)

    assert ThriftReader(data).struct({(LIST, 1): {(I32, 1): {}}}) == {1: [{1: 1}, {1: 2}]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x15",
        b"\x15\xff",
        b"\x15" + b"\xff" * 12,
        b"\x1d\x00",
        b"\x1c" * 100,
        b"\x19\x19" * 100,
        b"\x18\x7f\x00",
        b"\x19\xf7\xff\xff\xff\xff\x7f" + bytes(100),
        b"\x17\x00",
    ],
    ids=lambda data: data[:8].hex() or "nothing",
)
def test_what_is_no_struct_is_said_to_be_none_at_once(data: bytes) -> None:
    with pytest.raises(ThriftError):
        ThriftReader(data).struct({})


def test_a_list_that_could_not_be_in_so_few_bytes_is_refused_before_it_is_made() -> None:
    with pytest.raises(ThriftError, match="a list of 1000 structs in 1004 bytes"):
        ThriftReader(b"\x19\xfc\xe8\x07" + bytes(1000)).struct({(LIST, 1): {(STRUCT, 1): {}}})
