"""Parquet: types as they come, words that do not fit, and files that would cost more than they seem to."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.parquet_rows import read_parquet
from beam_flowlogs.rows import BadRow, Period

END = 1_764_000_059
SLOT_MS = 1_764_000_300_000


def _file(columns: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def _read(data: bytes, limits: Limits | None = None) -> tuple[list[dict[str, Any]], list[BadRow]]:
    rows = list(read_parquet(iter([data[:1000], data[1000:]]), limits or Limits(), Period(SLOT_MS, None, 30)))
    return [row for part in rows for row in part.batch.to_pylist()], [bad for part in rows for bad in part.bad]


def _reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(DecodeError) as caught:
        _read(data, limits)
    return caught.value.reason


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint32(), pa.uint64(), pa.string()])
@pytest.mark.parametrize("name", ["srcport", "bytes", "account_id", "moon_phase"])
def test_a_column_is_read_by_its_name_whatever_its_type(name: str, kind: pa.DataType) -> None:
    column = pa.array([7, None, 99], pa.int64()).cast(kind)

    values, bad = _read(_file({"end": [END] * 3, name: column}))

    expected = [7, None, 99] if name in ("srcport", "bytes") else ["7", None, "99"]
    assert ([row[name] for row in values], bad) == (expected, [])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"store_schema": False}], ids=str)
def test_text_may_be_of_any_kind(kind: pa.DataType, options: dict[str, Any]) -> None:
    column = pa.array(["ACCEPT", None, "-", "", "REJECT"]).cast(kind)

    values, bad = _read(_file({"end": [END] * 5, "action": column}, **options))

    assert ([row["action"] for row in values], bad) == (["ACCEPT", None, None, None, "REJECT"], [])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("srcport", "007", None),
        ("srcport", "65535", None),
        ("srcport", "65536", "out-of-range"),
        ("srcport", "-1", "out-of-range"),
        ("srcport", "99999999999", "out-of-range"),
        ("srcport", "9" * 30, "out-of-range"),
        ("srcport", "0x10", "not-a-number"),
        ("srcport", "+5", "not-a-number"),
        ("srcport", " 5", "not-a-number"),
        ("srcport", "1_0", "not-a-number"),
        ("srcport", "\u0665", "not-a-number"),
        ("srcport", "https", "not-a-number"),
        ("srcport", 65536, "out-of-range"),
        ("srcport", -1, "out-of-range"),
        ("srcport", 1 << 40, "out-of-range"),
        ("bytes", 1 << 48, None),
        ("bytes", (1 << 48) + 1, "out-of-range"),
        ("bytes", "9223372036854775807", "out-of-range"),
        ("srcaddr", "010.0.0.1", "not-an-address"),
        ("srcaddr", "fe80::1%eth0", "not-an-address"),
        ("start", 5, "time-out-of-range"),
        ("start", END * 1000, None),
        ("action", b"\xff", "not-utf-8"),
        ("srcaddr", b"\xff", "not-utf-8"),
        ("srcport", b"\xff", "not-utf-8"),
    ],
)
def test_a_value_is_judged_as_in_a_text(name: str, value: Any, reason: str | None) -> None:
    others = {"srcport": "80", "bytes": "5", "srcaddr": "::1", "start": str(END), "action": "ACCEPT"}
    good: Any = others[name] if isinstance(value, str) else others[name].encode()
    if isinstance(value, int):
        good = int(others[name])

    values, bad = _read(_file({"end": [END] * 3, name: [good, value, good]}))

    assert [row.reason for row in bad] == ([reason] if reason else [])
    assert len(values) == 3 - len(bad)
    assert all(row.number == 1 and row.data.startswith(b"end %s\n" % name.encode()) for row in bad)


def test_text_that_is_called_so_and_is_no_utf_8_is_bad() -> None:
    column = pa.array([b"ACCEPT", b"\xff", b"REJECT"], pa.binary())
    invalid = pa.StringArray.from_buffers(3, *column.buffers()[1:])

    values, bad = _read(_file({"end": [END] * 3, "action": invalid}))

    assert [row["action"] for row in values] == ["ACCEPT", "REJECT"]
    assert [(row.number, row.reason, row.data) for row in bad] == [(1, "not-utf-8", b"end action\n%d \xff" % END)]


def test_a_bad_row_stays_one_line_when_its_value_holds_a_newline() -> None:
    _, bad = _read(_file({"end": [5], "action": ["a\n1764000059 b"]}))

    assert [row.data for row in bad] == [b"end action\n5 a 1764000059 b"]


def test_rows_are_numbered_through_row_groups_and_batches() -> None:
    ports = [70_000 if at % 1000 == 7 else at % 1000 for at in range(30_000)]
    addresses = [f"10.0.{at // 256 % 256}.{at % 256}" for at in range(30_000)]

    data = _file({"end": [END] * 30_000, "srcport": ports, "srcaddr": addresses}, row_group_size=7001)
    rows = list(read_parquet(iter([data]), Limits(), Period(None, None, 30)))

    numbers = [number for part in rows for number in part.numbers.tolist()]
    assert [bad.number for part in rows for bad in part.bad] == list(range(7, 30_000, 1000))
    assert numbers == [at for at in range(30_000) if at % 1000 != 7]
    assert [row["srcaddr"] for part in rows for row in part.batch.to_pylist()] == [addresses[at] for at in numbers]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"end": [1.5]}, "header-broken"),
        ({"end": [True]}, "header-broken"),
        ({"end": [[1]]}, "header-broken"),
        ({"end": [{"bytes": 1}]}, "header-broken"),
        ({"end": pa.array([0], pa.timestamp("s"))}, "header-broken"),
        ({"end": [1], "No Field": [1]}, "header-broken"),
        ({"my_column": [1]}, "not-a-flow-log"),
        ({"end": [END], **{f"f{at}": [1] for at in range(256)}}, "too-many-columns"),
    ],
)
def test_a_table_that_is_no_flow_log_is_refused(columns: dict[str, Any], reason: str) -> None:
    assert _reason(_file(columns)) == reason


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([END]), pa.array([1])], names=["end", "end"])

    assert _reason(_file(table)) == "header-broken"


def test_an_encoding_that_could_unfold_without_bound_is_refused() -> None:
    data = _file(
        {"end": [END], "action": ["ACCEPT"]}, use_dictionary=False, column_encoding={"action": "DELTA_BYTE_ARRAY"}
    )

    assert _reason(data) == "parquet-unsupported"


def test_a_file_without_rows_and_a_column_without_values_are_read() -> None:
    assert _read(_file({"end": pa.array([], pa.int64()), "action": pa.array([], pa.string())})) == ([], [])
    assert _read(_file({"end": [END], "action": pa.nulls(1)})) == ([{"end": END, "action": None}], [])


@pytest.mark.parametrize("cut", [4, 8, 11, 100, -1, -4, -8, -9])
def test_a_file_that_ends_early_is_broken(cut: int) -> None:
    data = _file({"end": [END] * 100, "action": ["ACCEPT"] * 100})

    assert _reason(data[:cut]) == "parquet-broken"


def test_what_stands_before_a_damaged_page_is_read() -> None:
    data = bytearray(_file({"end": list(range(END, END + 90_000))}, row_group_size=10_000, compression="gzip"))
    page = parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(8).column(0)
    middle = page.data_page_offset + page.total_compressed_size // 2
    data[middle : middle + 50] = bytes(50)
    seen = 0
    reason = ""
    try:
        for rows in read_parquet(iter([bytes(data)]), Limits(), Period(None, None, 30)):
            seen += rows.batch.num_rows
    except DecodeError as error:
        reason = error.reason

    assert reason == "parquet-broken"
    assert seen >= 65_536


@pytest.mark.parametrize("dictionary", [False, True])
def test_long_words_that_all_differ_are_cut_where_they_are(dictionary: bool) -> None:
    words = [f"{at:08}" + "x" * 692 for at in range(70_000)]
    table = pa.table({"end": pa.array([END] * len(words)), "interface_id": pa.array(words)})
    sink = io.BytesIO()
    parquet.write_table(table, sink, use_dictionary=dictionary)

    found = list(read_parquet(iter([sink.getvalue()]), Limits(ratio=10_000), Period(None, None, 30)))

    assert [word for rows in found for word in rows.batch.column("interface_id").to_pylist()] == words
    assert max(rows.batch.column("interface_id").nbytes for rows in found) < 20 << 20


def test_a_batch_has_fewer_rows_of_more_columns() -> None:
    rows = 40_000
    wide = {f"field_{at}": pa.array([at] * rows) for at in range(255)}
    for columns, most in (({}, 32_768), (wide, 2_048)):
        sink = io.BytesIO()
        parquet.write_table(pa.table({"end": pa.array([END] * rows), **columns}), sink)
        found = read_parquet(iter([sink.getvalue()]), Limits(ratio=10_000), Period(None, None, 30))
        assert max(batch.batch.num_rows for batch in found) == most


def test_a_billion_rows_of_a_few_bytes_are_refused_before_they_are_read() -> None:
    table = pa.table({"end": pa.nulls(4_000_000, pa.int64()), "action": pa.nulls(4_000_000, pa.string())})
    sink = io.BytesIO()
    with parquet.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(table)
    data = sink.getvalue()
    assert len(data) < 200_000

    assert _reason(data) == "ratio-too-high"
    assert _reason(data, Limits(plain_bytes=100 << 20)) == "too-large"


def _varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def test_a_page_is_measured_by_its_own_header_not_by_the_footer() -> None:
    data = _file({"end": [END] * 1000}, compression="gzip", use_dictionary=False)
    page = parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0).data_page_offset
    # A page header begins with its type (0), its size unpacked and its size packed, each an integer in zigzag.
    honest = data[page : page + 5]
    assert honest[:3] == b"\x15\x00\x15"
    assert honest[3] > 127 > honest[4]
    lying = data[:page] + b"\x15\x00\x15" + _varint(2 * 2_000_000_000) + data[page + 5 :]

    assert _reason(lying) == "page-too-large"


def test_a_long_word_repeated_is_not_unfolded_at_once() -> None:
    word = "w" * 8_000
    data = _file({"end": [END] * 15_000, "action": [word] * 15_000})
    assert len(data) < 1_000_000

    sizes = [rows.batch.nbytes for rows in read_parquet(iter([data]), Limits(), Period(None, None, 30))]

    assert sum(sizes) > 119_000_000
    assert max(sizes) < 20 << 20


def test_a_row_longer_than_a_line_may_be_is_refused_after_the_rows_before() -> None:
    words = ["ACCEPT"] * 10_000 + ["w" * 70_000] + ["ACCEPT"] * 10
    seen = 0
    reason = ""
    try:
        for rows in read_parquet(
            iter([_file({"end": [END] * 10_011, "action": words})]), Limits(), Period(None, None, 30)
        ):
            seen += rows.batch.num_rows
    except DecodeError as error:
        reason = error.reason

    assert (seen, reason) == (10_000, "line-too-long")


def test_a_footer_larger_than_any_index_is_refused() -> None:
    data = _file({"end": [END]})

    assert _reason(data[:-8] + struct.pack("<I", 3 << 20) + b"PAR1") == "too-large"


def test_an_object_larger_than_allowed_is_stopped_while_it_comes() -> None:
    assert _reason(b"PAR1" + bytes(5000), Limits(plain_bytes=2000)) == "too-large"
