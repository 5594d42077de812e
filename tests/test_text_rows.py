"""Text: headers, lines and blocks. A row's fate is its own, whatever stands beside it and wherever blocks end."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import csv

from beam_flowlogs import kernel
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rows import Period, Rows
from beam_flowlogs.text_rows import is_header, read_text

END = 1_764_000_059
SLOT_MS = 1_764_000_300_000
HEADER = " ".join(DEFAULT_FORMAT).encode()
ROW = b"2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
BOM = b"\xef\xbb\xbf"
EXPORTED = b"2026-01-01T00:00:00.000Z "

Verdicts = dict[int, Any]


def _read(data: bytes, names: Sequence[str] | None = None, size: int = 1 << 20) -> list[Rows]:
    """Read a text in pieces, and blocks, of ``size`` bytes."""
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return list(read_text(pieces, Limits(piece_bytes=size), names, Period(SLOT_MS, None, 30)))


def _read_to_fault(pieces: Iterable[bytes]) -> tuple[list[int], DecodeError]:
    """Return the numbers of the rows before the fault, and the fault."""
    seen: list[int] = []
    try:
        for rows in read_text(iter(pieces), Limits(), None, Period(SLOT_MS, None, 30)):
            seen += rows.numbers.tolist()
    except DecodeError as error:
        return seen, error
    raise AssertionError(f"no fault in {len(seen)} rows")


def _verdicts(data: bytes, names: Sequence[str] | None = None, size: int = 1 << 20) -> Verdicts:
    """Return for each row, by its number, its values or the reason why it is bad and what is kept of it."""
    found: Verdicts = {}
    for rows in _read(data, names, size):
        found |= zip(rows.numbers.tolist(), rows.batch.to_pylist())
        found |= {bad.number: (bad.reason, bad.detail, bad.data) for bad in rows.bad}
    return found


def _reasons(*lines: bytes, header: bytes = HEADER) -> list[str]:
    return [bad.reason for rows in _read(b"\n".join([header, *lines])) for bad in rows.bad]


# What Arrow's reader, Python or Elasticsearch take differently from what a flow log means.
TRICKY = [
    b"", b"-", b"--", b"0", b"7", b"007", b"-0", b"-5", b"+5", b"0x10", b"0X1f", b"-0x1", b"x0x1", b"1e3", b"1.0",
    b"1_0", b"5\t", b"\t5", b"\t", b"\x0b", b"65535", b"65536", b"2147483648",
    b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775809", b"0" * 30 + b"7", b"9" * 5000, b"\xd9\xa3", b"\xff", b"\xc3", b"caf\xc3\xa9", BOM,
    BOM + b"5", b"\0", b"5\0", b"a\0b", b'"', b'"5"', b'a"b', b"\\", b"\\n", b"5\r", b"\r", b"\r5",
    b"true", b"nan", b"null",
    b"NULL", b"10.0.0.1", b"010.0.0.1", b"10.0.0.256", b"10.0.0", b"10.0.0.1.2", b"::1", b"::ffff:10.0.0.1",
    b"fe80::1%eth0",
    b"1764000059", b"1764000059123", b"59", b"99999999999", b"100000000000", b"bytes", b"action", b"srcport",
]  # fmt: skip
FORMATS = [
    b"end bytes action", b"srcport", b"action", b"action log-status", b"srcaddr end", b"new-field bytes",
]  # fmt: skip


@st.composite
def _files(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    header = draw(st.sampled_from(FORMATS))
    width = len(header.split())
    good = b" ".join(b"10.0.0.9" if name == b"srcaddr" else b"%d" % END for name in header.split())
    values = st.sampled_from(TRICKY) | st.binary(max_size=4).map(lambda value: value.replace(b"\n", b""))
    line = st.one_of(
        st.just(good),
        st.just(header),
        st.lists(values, min_size=width, max_size=width).map(b" ".join),
        st.lists(values, max_size=3).map(b" ".join),
    )
    return header, draw(st.lists(line, min_size=1, max_size=5))


def _alone(header: bytes, line: bytes) -> Any:
    """Return the verdict of a line that is its file's only one."""
    try:
        return _verdicts(header + b"\n" + line).get(0)
    except DecodeError as error:
        return error.reason


@settings(max_examples=400)
@given(_files(), st.integers(1, 30))
@example((b"srcport", [b"0x10", b"letters"]), 30)
@example((b"action", [b"ACCEPT", b"", b"REJECT"]), 30)
@example((b"action", [BOM + b"ACCEPT"]), 30)
def test_a_rows_verdict_depends_neither_on_its_neighbours_nor_on_where_blocks_end(
    file: tuple[bytes, list[bytes]], size: int
) -> None:
    header, lines = file
    alone = {number: verdict for number, line in enumerate(lines) if (verdict := _alone(header, line))}
    data = b"\n".join([header, *lines])

    if "header-changed" in alone.values():
        with pytest.raises(DecodeError, match="header-changed"):
            _verdicts(data)
        return
    assert _verdicts(data) == alone
    assert _verdicts(data + b"\nbad row with a great many values\n").items() >= alone.items()
    assert _verdicts(data, size=size) == alone


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"443", None), (b"0443", None), (b"-", None), (b"65535", None),
        (b"65536", "out-of-range"), (b"-1", "out-of-range"), (b"99999999999999999999", "out-of-range"),
        (b"0x10", "not-a-number"), (b"+5", "not-a-number"), (b"1e3", "not-a-number"), (b"5\t", "not-a-number"),
        (b"https", "not-a-number"), (b"\xd9\xa3", "not-a-number"), (b"", "empty-value"), (b"\xff", "not-utf-8"),
    ],
)  # fmt: skip
def test_a_number_is_decimal_digits_and_in_range(value: bytes, reason: str | None) -> None:
    assert _reasons(ROW.replace(b" 443 ", b" " + value + b" ")) == ([reason] if reason else [])


def test_a_text_too_long_to_be_searched_is_bad() -> None:
    assert _reasons(b"x" * 8191 + b" 1764000059", header=b"interface-id end") == []
    assert _reasons(b"x" * 8192 + b" 1764000059", header=b"interface-id end") == ["value-too-long"]


@pytest.mark.parametrize("name", [b"bytes", b"packets"])
def test_a_count_too_large_to_be_added_up_is_bad(name: bytes) -> None:
    header = name + b" end"

    assert _reasons(b"281474976710656 1764000059", header=header) == []
    assert _reasons(b"281474976710657 1764000059", header=header) == ["out-of-range"]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (b"1764000000", b"1764000059", None),
        (b"1764000000000", b"1764000059", None),
        (b"1764000000", b"1764000059999", None),
        (b"1764000060", b"1764000059", None),  # AWS has been seen to round: the record still says what flowed
        (b"-", b"1764000059", None),
        (b"1764000000", b"-", None),
        (b"0", b"1764000059", "time-out-of-range"),
        (b"9223372036854775807", b"1764000059", "time-out-of-range"),
        (b"1764000000", b"1764000059000000", "time-out-of-range"),
        (b"1764000000", b"59", "time-out-of-range"),
        (b"-1", b"1764000059", "out-of-range"),
    ],
)
def test_times_are_seconds_or_milliseconds_of_our_age(start: bytes, end: bytes, reason: str | None) -> None:
    assert _reasons(start + b" " + end, header=b"start end") == ([reason] if reason else [])


def test_a_row_with_a_stray_carriage_return_is_bad_and_one_before_the_newline_is_not() -> None:
    assert _reasons(ROW + b"\r", ROW[:20] + b"\r" + ROW[20:], ROW + b"\r") == ["stray-carriage-return"]


def test_blank_lines_are_numbered_but_no_rows() -> None:
    assert sorted(_verdicts(b"\n\r\n" + HEADER + b"\n\n" + ROW + b"\n \t\n" + ROW + b"\n\n")) == [1, 3]
    assert sorted(_verdicts(b"\n\r\n" + ROW + b"\n\n" + ROW, names=DEFAULT_FORMAT)) == [2, 4]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_blank_lines_take_no_room_for_the_columns_that_they_have_not(
    ending: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"new-{number}" for number in range(144)]
    row = b" ".join([b"x"] * 144)
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    read_csv = csv.read_csv
    monkeypatch.setattr(kernel, "compiled", None)
    monkeypatch.setattr(csv, "read_csv", lambda *arguments: read_csv(*arguments, memory_pool=pool))

    seen = _verdicts(ending.join([row, *[b""] * 300_000, row, b""]), names)

    assert sorted(seen) == [0, 300_001]
    assert 0 < pool.max_memory() < 10_000_000


def test_a_first_block_of_blank_lines_hides_nothing() -> None:
    assert sorted(_verdicts(b"\n" * 100 + HEADER + b"\n" + ROW, size=10)) == [0]


def test_a_blank_line_is_no_row_of_a_format_of_one_text() -> None:
    assert _verdicts(b"action\nACCEPT\n\nREJECT\n") == {0: {"action": "ACCEPT"}, 2: {"action": "REJECT"}}


@pytest.mark.parametrize("header", [HEADER, b"action log-status"], ids=["with numbers", "all text"])
def test_files_put_together_are_read_past_their_headers(header: bytes) -> None:
    row = ROW if header is HEADER else b"ACCEPT OK"
    file = b"\n".join([header, row, b""])

    assert sorted(_verdicts(file + file)) == [0, 2]


def test_files_of_different_formats_put_together_are_read_up_to_the_second_header() -> None:
    seen, fault = _read_to_fault([HEADER + b"\n" + ROW + b"\nend bytes\n1764000059 1\n"])

    assert (fault.reason, seen) == ("header-changed", [0])
    assert "after 1 rows" in fault.detail


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (HEADER, True),
        (b"bytes", True),
        (b"end some-field-of-2031 bytes", True),
        (ROW, False),
        (b"start of file", False),
        (b"ACCEPT OK", False),
        (b"", False),
        (b"bytes \xff", False),
        (b"Version Account-Id", False),
    ],
)
def test_a_header_is_told_from_a_record(line: bytes, expected: bool) -> None:
    assert is_header(line) == expected


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"bytes end bytes", "header-broken"),
        (b"new-field end new_field start", "header-broken"),
        (b" ".join([b"end", *[b"field-%d" % at for at in range(256)]]), "header-missing"),
        (b" ".join([*DEFAULT_FORMAT[0].encode().split(), *HEADER.split() * 20]), "too-many-columns"),
        (b"tcp_flags_array tcp-flags", "header-broken"),
    ],
)
def test_a_header_that_cannot_be_is_refused(header: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        _read(header + b"\n1 2 3\n")

    assert caught.value.reason == reason


def test_a_header_wins_over_the_names_given() -> None:
    assert _verdicts(b"end bytes\n1764000059 1\n", names=DEFAULT_FORMAT) == {0: {"end": END, "bytes": 1}}


def test_without_a_header_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    assert _verdicts(BOM + b"1764000059 1\n", names=("end", "bytes")) == {0: {"end": END, "bytes": 1}}


def test_an_exported_line_without_its_time_is_bad_and_a_bad_one_can_be_read_again() -> None:
    good, short, alien = EXPORTED + ROW, EXPORTED + b"2 3", b"x " + ROW

    verdicts = _verdicts(b"\n".join([good, good, short, alien, good]), names=DEFAULT_FORMAT)

    assert [verdicts[at]["dstport"] for at in (0, 1, 4)] == [443] * 3
    assert verdicts[2][0] == "wrong-number-of-values"
    assert verdicts[3][0] == "export-time-missing"
    assert _verdicts(verdicts[2][2])[0][0] == "wrong-number-of-values"
    assert verdicts[2][2] == HEADER + b"\n2 3"


def test_every_bad_row_can_be_read_again_to_the_same_verdict() -> None:
    lines = [ROW.replace(b" 443 ", b" " + value + b" ") for value in TRICKY if b"\r" not in value]
    verdicts = _verdicts(b"\n".join([HEADER, *lines]))

    bad = [verdict for verdict in verdicts.values() if isinstance(verdict, tuple)]
    assert len(bad) > 40
    assert [_verdicts(data)[0] for _, _, data in bad] == bad


@pytest.mark.parametrize("size", [1000, 100_000, 1 << 20])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_longest_line_is_the_same_wherever_pieces_end(size: int, excess: int) -> None:
    long = b"1764000059 " + b"a" * ((64 << 10) + excess - len(b"1764000059 "))
    data = b"end action\n" + b"1764000059 ACCEPT\n" * 20_000 + long + b"\n1764000059 LAST\n"

    if not excess:
        assert len(_verdicts(data, size=size)) == 20_002
    else:
        seen, fault = _read_to_fault(data[at : at + size] for at in range(0, len(data), size))
        assert (len(seen), fault.reason) == (20_000, "line-too-long")


def test_a_file_without_any_newline_is_given_up_before_it_is_held() -> None:
    pulled = 0

    def endless() -> Any:
        nonlocal pulled
        yield HEADER + b"\n" + ROW + b"\n"
        while True:
            pulled += 1
            yield b"x" * 100_000

    with pytest.raises(DecodeError, match="line-too-long"):
        list(read_text(endless(), Limits(), None, Period(None, None, 30)))

    assert pulled * 100_000 <= Limits.piece_bytes


def test_rows_before_a_fault_of_the_source_are_given_and_the_half_line_is_not() -> None:
    def source() -> Any:
        yield HEADER + b"\n" + ROW + b"\n" + ROW[:-1]
        raise DecodeError("gzip-truncated", "its gzip data ends early")

    seen, fault = _read_to_fault(source())

    assert seen == [0]
    assert str(fault) == "gzip-truncated: after 1 rows: its gzip data ends early"


def test_short_lines_are_handed_on_so_many_at_a_time() -> None:
    sizes = [rows.batch.num_rows for rows in _read(b"srcport\n" + b"7\n" * 300_000)]

    assert sum(sizes) == 300_000
    assert max(sizes) <= 49_152


def test_a_bad_line_costs_its_neighbours_alone() -> None:
    lines = [b"7"] * 300_000
    lines[150_000] = b"x"
    lines[200_000] = b""

    found = list(_read(b"srcport\n" + b"\n".join(lines) + b"\n"))

    assert [bad.number for rows in found for bad in rows.bad] == [150_000]
    assert max(rows.batch.num_rows for rows in found) <= 49_152
    numbers = [number for rows in found for number in rows.numbers.tolist()]
    assert numbers == [at for at in range(300_000) if at not in (150_000, 200_000)]


@pytest.mark.parametrize(("header", "line"), [(HEADER, b"x"), (b"end bytes", b"9 9"), (b"end bytes", b"99999999999 9")])
def test_a_block_of_nothing_but_bad_rows_costs_little_memory(header: bytes, line: bytes) -> None:
    data = header + b"\n" + (line + b"\n") * 200_000
    tracemalloc.start()
    found = sum(len(rows.bad) + rows.more_bad for rows in _read(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == 200_000
    assert peak < 64 << 20


def test_a_block_of_bad_rows_takes_no_longer_than_looking_at_each() -> None:
    data = HEADER + b"\n" + ROW.replace(b" 443 ", b" 70000 ") + b"\n"
    data += (ROW.replace(b" 443 ", b" 70000 ") + b"\n") * 20_000

    began = time.process_time()
    found = _read(data)

    assert sum(len(rows.bad) + rows.more_bad for rows in found) == 20_001
    assert max(len(rows.bad) for rows in found) == 1000
    assert time.process_time() - began < 5
