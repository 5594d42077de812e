"""Decoding: stored bytes in, typed rows and bad ones out, whatever the file's kind and faults."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_flowlogs.fields import (
    BY_COLUMN,
    DEFAULT_FORMAT,
    FIELDS,
    TRANSIT_GATEWAY_FORMAT,
    Kind,
    field_of,
    vpc_format,
)
from beam_flowlogs.generate import encode_parquet, encode_text
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rows import BadRow, Rows

HEADER = " ".join(DEFAULT_FORMAT).encode()
ROW = b"2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
NODATA = b"2 123456789012 eni-1 - - - - - - - 1764000000 1764000059 - NODATA"
SMALL = Limits(piece_bytes=200)


def _chunks(data: bytes, size: int = 100) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def _decode(
    data: bytes, limits: Limits = SMALL, **options: Any
) -> tuple[list[dict[str, Any]], list[int], list[BadRow]]:
    rows: list[Rows] = list(decode(_chunks(data), limits, **options))
    values = [row for batch in rows for row in batch.batch.to_pylist()]
    return values, [int(n) for batch in rows for n in batch.numbers], [bad for batch in rows for bad in batch.bad]


def _zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def _text(*lines: bytes) -> bytes:
    return b"\n".join([HEADER, *lines, b""])


def test_values_are_typed_and_a_dash_is_null() -> None:
    values, numbers, bad = _decode(_text(ROW, NODATA))

    assert (values[0]["srcport"], values[0]["bytes"], values[0]["srcaddr"]) == (40000, 840, "10.0.0.1")
    assert values[1]["srcaddr"] is None
    assert values[1]["log_status"] == "NODATA"
    assert numbers == [0, 1]
    assert bad == []


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: text,
        gzip.compress,
        lambda text: b"".join(gzip.compress(text[at : at + 37]) for at in range(0, len(text), 37)),
        lambda text: gzip.compress(text) + b"\0" * 50,
        _zstd,
    ],
    ids=["plain", "gzip", "gzip of many members", "gzip with padding", "zstd"],
)
def test_the_kind_of_a_file_is_told_by_its_content(pack: Any) -> None:
    values, numbers, bad = _decode(pack(_text(*[ROW] * 50)))

    assert (len(values), numbers, bad) == (50, list(range(50)), [])


def test_rows_at_the_edges_of_blocks_survive_any_piece_size() -> None:
    text = _text(*[ROW.replace(b" 443 ", b" %d " % port) for port in range(30)])
    for size in range(90, 400, 7):
        values, _, _ = _decode(text, Limits(piece_bytes=size))
        assert [value["dstport"] for value in values] == list(range(30))


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(ending: bytes) -> None:
    newline = b"\r\n" if ending == b"\r\n" else b"\n"
    data = b"\xef\xbb\xbf" + newline.join([HEADER, ROW, b"", ROW]) + ending

    values, numbers, bad = _decode(data)

    assert (len(values), numbers, bad) == (2, [0, 2], [])
    assert values[1]["log_status"] == "OK"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"2 3 4", "wrong-number-of-values"),
        (ROW + b" more", "wrong-number-of-values"),
        (ROW.replace(b" 443 ", b" https "), "not-a-number"),
        (ROW.replace(b" 443 ", b" 1e3 "), "not-a-number"),
        (ROW.replace(b" 443 ", b" -1 "), "out-of-range"),
        (ROW.replace(b" 443 ", b" 70000 "), "out-of-range"),
        (ROW.replace(b" 443 ", b" 99999999999 "), "out-of-range"),
        (ROW.replace(b"10.0.0.1", b"10.0.0.256"), "not-an-address"),
        (ROW.replace(b"10.0.0.1", b"010.0.0.1"), "not-an-address"),
        (ROW.replace(b"10.0.0.1", b"fe80::1%eth0"), "not-an-address"),
        (ROW.replace(b"1764000059", b"59"), "time-out-of-range"),
        (ROW.replace(b"eni-1", b"\xff\xfe"), "not-utf-8"),
    ],
)
@pytest.mark.parametrize("neighbour", [ROW, b"another bad row"], ids=["alone", "beside another"])
def test_a_bad_row_is_set_aside_with_its_reason_and_its_line(row: bytes, reason: str, neighbour: bytes) -> None:
    values, numbers, bad = _decode(_text(ROW, row, neighbour, ROW), Limits())

    mine = next(found for found in bad if found.number == 1)
    assert mine.reason == reason
    assert mine.data == HEADER + b"\n" + row
    assert 0 in numbers
    assert 3 in numbers
    assert len(values) == 4 - len(bad)


@pytest.mark.parametrize(
    ("data", "reason", "rows"),
    [
        (gzip.compress(_text(*[ROW] * 50))[:-4], "gzip-truncated", 50),
        (gzip.compress(_text(ROW))[:12], "gzip-truncated", 0),
        (b"\x1f\x8b" + b"garbage" * 10, "gzip-corrupt", 0),
        (_zstd(_text(*[ROW] * 50))[:-5], "zstd-corrupt", None),
        (ROW + b"\n", "header-missing", 0),
        (bytes(range(256)) * 100, "not-a-flow-log", 0),
        (HEADER.replace(b"bytes", b"packets") + b"\n" + ROW, "header-broken", 0),
        (_text(ROW) + b"x" * 70_000, "line-too-long", 1),
        (b"PAR1" + b"x" * 100, "parquet-broken", 0),
    ],
)
def test_a_broken_object_gives_what_stands_before_the_fault_and_then_its_reason(
    data: bytes, reason: str, rows: int | None
) -> None:
    seen: list[int] = []
    with pytest.raises(DecodeError) as caught:
        seen.extend(batch.batch.num_rows for batch in decode(_chunks(data, 1000), Limits(piece_bytes=1000)))

    assert caught.value.reason == reason
    assert rows in (None, sum(seen))


@pytest.mark.parametrize("data", [b"", gzip.compress(b""), HEADER, _text(), gzip.compress(_text())])
def test_an_empty_object_and_one_of_a_header_only_have_no_rows(data: bytes) -> None:
    assert _decode(data) == ([], [], [])


def test_a_decompression_bomb_is_refused_by_size_and_by_ratio() -> None:
    bomb = gzip.compress(_text(*[ROW] * 800_000), 1)
    with pytest.raises(DecodeError, match="too-large"):
        list(decode(_chunks(bomb, 1 << 16), Limits(plain_bytes=1 << 20)))
    with pytest.raises(DecodeError, match="ratio-too-high"):
        list(decode(_chunks(bomb, 1 << 16), Limits(ratio=2)))


def test_a_text_without_header_is_read_by_the_names_given_and_an_export_loses_its_time() -> None:
    exported = b"2026-01-01T00:00:00.000Z "

    for data in (ROW + b"\n", exported + ROW + b"\n" + exported + NODATA):
        values, _, bad = _decode(data, names=DEFAULT_FORMAT)
        assert bad == []
        assert values[0]["dstport"] == 443


def test_times_may_be_milliseconds_and_come_from_start_or_the_slot_where_there_is_no_end() -> None:
    def times(data: bytes, slot_ms: int | None = None) -> list[int]:
        return [int(t) for batch in decode(_chunks(data), SMALL, slot_ms=slot_ms) for t in batch.times]

    assert times(b"end bytes\n1764000059 1\n1764000059123 1\n") == [1_764_000_059_000, 1_764_000_059_123]
    assert times(b"start bytes\n1764000000 1\n- 1\n", slot_ms=1_764_000_300_000) == [
        1_764_000_000_000,
        1_764_000_300_000,
    ]
    assert times(b"bytes dstport\n1 1\n", slot_ms=1_764_000_300_000) == [1_764_000_300_000]
    assert [bad.reason for bad in _decode(b"bytes dstport\n1 1\n")[2]] == ["time-missing"]


DAY_MS = 86_400_000


def _of_days(days: list[int], **known: Any) -> tuple[list[int], list[tuple[int, str]]]:
    """Read rows that lie so many days from ``END``; return the numbers of the good ones, and the bad ones."""
    ends = [1_764_000_059 + day * 86_400 for day in days]
    data = b"\n".join([b"end bytes", *[b"%d 1" % end for end in ends], b""])
    rows = list(decode(_chunks(data), SMALL, **known))
    return (
        [int(number) for part in rows for number in part.numbers],
        [(bad.number, bad.reason) for part in rows for bad in part.bad],
    )


def test_a_record_far_from_its_objects_slot_opens_no_index_of_its_own() -> None:
    slot = {"slot_ms": 1_764_000_000_000}

    assert _of_days([-31, -29, 0, 29, 31, 7000], **slot) == (
        [1, 2, 3],
        [(number, "time-implausible") for number in (0, 4, 5)],
    )
    _, _, (bad,) = _decode(b"end bytes\n1864000059 1\n", slot_ms=1_764_000_000_000)
    assert "--max-days" in bad.detail
    assert "2025-10-25T16:00:00.000Z to 2025-12-24T16:00:00.000Z" in bad.detail


def test_without_a_slot_the_first_record_in_order_tells_the_time_of_all() -> None:
    assert _of_days([-400, -399, -380, -371, -369, 0]) == (
        [0, 1, 2, 3],
        [(4, "time-implausible"), (5, "time-implausible")],
    )


def test_a_record_of_long_after_its_object_was_written_does_not_tell_the_time_of_the_others() -> None:
    written = {"written_ms": 1_764_000_000_000 + 400 * DAY_MS}  # a copy, of old records

    assert _of_days([500, 0, 1, 431], **written) == ([1, 2], [(0, "time-implausible"), (3, "time-implausible")])


@pytest.mark.parametrize("size", [20, 100, 10_000])
def test_how_an_object_is_cut_into_blocks_decides_nothing_about_its_period(size: int) -> None:
    lines = [b"end bytes", b"x 1", b"9 1", *[b"%d 1" % (1_764_000_059 + day * 86_400) for day in range(0, 80, 7)]]
    data = b"\n".join(lines)
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    rows = list(decode(pieces, Limits(piece_bytes=size)))

    assert [int(number) for part in rows for number in part.numbers] == [2, 3, 4, 5, 6]


def test_a_field_that_aws_adds_later_is_kept_as_text() -> None:
    values, _, bad = _decode(b"end new-field bytes\n1764000059 7 1\n")

    assert (values[0]["new_field"], bad) == ("7", [])


def _value(column: str) -> st.SearchStrategy[Any]:
    field = field_of(column)
    if column in ("start", "end"):
        return st.integers(1_764_000_000, 1_764_000_300)
    if field.kind is Kind.ADDRESS:
        return st.none() | st.ip_addresses().map(str)
    if field.kind.is_number:
        return st.none() | st.integers(0, 65535 if field.maximum else 2**31 - 1 if field.kind is Kind.INT32 else 2**40)
    words = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=12)
    return st.none() | words.filter(lambda word: word != "-")


def _lines(names: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    columns = [name.replace("-", "_") for name in names]
    rows = [["-" if record[name] is None else str(record[name]) for name in columns] for record in records]
    return "\n".join(" ".join(row) for row in [list(names), *rows]).encode()


FORMATS: Sequence[tuple[str, ...]] = [vpc_format(2), vpc_format(5), vpc_format(11), TRANSIT_GATEWAY_FORMAT]


@pytest.mark.parametrize("names", FORMATS, ids=["v2", "v5", "v11", "tgw"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_random_records_come_back_field_by_field_from_text_and_parquet(names: tuple[str, ...], data: Any) -> None:
    columns = [name.replace("-", "_") for name in names]
    record = st.fixed_dictionaries({column: _value(column) for column in columns})
    records = data.draw(st.lists(record, min_size=1, max_size=6))
    for row in records:
        if row.get("protocol") is not None:
            row["protocol"] %= 256

    lines = _lines(names, records)
    # The generator's writer refuses quotes, which no log of AWS's has.
    written = [] if b'"' in lines else [encode_text(records, names)]
    for stored in (lines, *written, encode_parquet(records, names)):
        values, numbers, bad = _decode(stored)
        assert bad == []
        assert values == records
        assert numbers == list(range(len(records)))


ALL_NAMES = (*(field.name for field in FIELDS), "moon-phase", "ecs-new-2")
"""What AWS logs, and fields that it might add."""


def _stored_as_parquet(names: Sequence[str], records: Sequence[Mapping[str, Any]], draw: Any) -> bytes:
    """Write records as others might: integers of either width or as text, what is absent as null or as a dash."""
    columns: dict[str, pa.Array] = {}
    for column in (name.replace("-", "_") for name in names):
        values = [record[column] for record in records]
        numbers = column in BY_COLUMN and BY_COLUMN[column].kind.is_number
        narrow = all(value is None or -(1 << 31) <= value < 1 << 31 for value in values) if numbers else False
        kinds = [pa.int64(), pa.string(), *([pa.int32()] if narrow else [])] if numbers else [pa.string()]
        kind = draw(st.sampled_from(kinds))
        absent = draw(st.sampled_from([None, "-"])) if kind == pa.string() else None
        texts = [absent if value is None else str(value) if kind == pa.string() else value for value in values]
        columns[column] = pa.array(texts, kind)
    sink = pa.BufferOutputStream()
    codec = draw(st.sampled_from(["none", "snappy", "gzip", "zstd"]))
    pa.parquet.write_table(pa.table(columns), sink, row_group_size=draw(st.integers(1, 4)), compression=codec)
    return sink.getvalue().to_pybytes()


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(ALL_NAMES), min_size=1, max_size=25, unique=True), st.data())
def test_any_subset_in_any_order_comes_back_from_every_kind_of_file(names: list[str], data: st.DataObject) -> None:
    names = data.draw(st.permutations([*names, *({"end", "srcaddr"} - set(names))]))
    columns = [name.replace("-", "_") for name in names]
    record = st.fixed_dictionaries({column: _value(column) for column in columns})
    records = data.draw(st.lists(record, min_size=1, max_size=6))
    for row in records:
        if row.get("protocol") is not None:
            row["protocol"] %= 256
    text = _lines(names, records)
    cut = data.draw(st.integers(0, len(text)))
    exported = b"".join(b"2026-01-01T00:00:00Z " + line + b"\n" for line in text.split(b"\n")[1:])

    for stored, given_names in (
        (text, None),
        (gzip.compress(text[:cut]) + gzip.compress(text[cut:]), None),
        (_zstd(text), None),
        (text.partition(b"\n")[2], names),
        (exported, names),
        (_stored_as_parquet(names, records, data.draw), None),
    ):
        values, numbers, bad = _decode(stored, Limits(piece_bytes=500), names=given_names)
        assert bad == []
        assert values == records
        assert numbers == list(range(len(records)))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"\x28\xb5\x2f\xfd", b"PAR1", HEADER + b"\n"]),
)
def test_hostile_bytes_raise_nothing_but_the_decoders_own_error(tail: bytes, head: bytes) -> None:
    with suppress(DecodeError):
        for batch in decode(_chunks(head + tail), SMALL):
            assert batch.batch.num_rows == len(batch.numbers) == len(batch.times)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_flipped_byte_raises_nothing_but_the_decoders_own_error(at: int, byte: int, parquet: bool) -> None:
    records = [dict(zip(DEFAULT_FORMAT, ROW.decode().split()))] * 3
    numbers = [{name: int(text) if text.isdigit() else text for name, text in record.items()} for record in records]
    stored = bytearray(encode_parquet(numbers, DEFAULT_FORMAT) if parquet else encode_text(numbers, DEFAULT_FORMAT))
    stored[at % len(stored)] = byte
    with suppress(DecodeError):
        list(decode(_chunks(bytes(stored)), Limits()))


def test_parquet_is_read_by_column_name_whatever_type_holds_a_number() -> None:
    table = pa.table(
        {
            "end": pa.array([1764000059, 1764000060, 1764000061], pa.int32()),
            "protocol": pa.array([6, 17, None], pa.int64()),
            "dstport": pa.array(["443", "-", "https"]),
            "srcaddr": pa.array(["10.0.0.1", "-", "::1"], pa.large_string()),
        }
    )
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)

    values, numbers, bad = _decode(sink.getvalue().to_pybytes())

    assert values == [
        {"end": 1764000059, "protocol": 6, "dstport": 443, "srcaddr": "10.0.0.1"},
        {"end": 1764000060, "protocol": 17, "dstport": None, "srcaddr": None},
    ]
    assert [(row.number, row.reason) for row in bad] == [(2, "not-a-number")]
    assert numbers == [0, 1]
