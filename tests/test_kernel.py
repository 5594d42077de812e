"""The compiled loops do what the Python beside them does, to the byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs import kernel
from beam_flowlogs.addresses import parse_addresses
from beam_flowlogs.coded import Coded, by_value, coded
from beam_flowlogs.community_id import community_ids
from beam_flowlogs.document import bulk_items
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.grouped import distinct, numbered, ranked, tallied
from beam_flowlogs.inflate import Limits
from beam_flowlogs.json_columns import Group, Segment, all_or_none, join
from beam_flowlogs.record_batch import decode
from tests.golden import GOLDEN, Golden

pytestmark = pytest.mark.skipif(
    kernel.compiled is None, reason="the kernel is not built: install Rust (cargo) and the package again"
)


@contextmanager
def pure() -> Iterator[None]:
    """Run without the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "compiled", None)
        yield


TEXTS = st.lists(st.none() | st.text(max_size=40), min_size=1, max_size=30)


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    rows = draw(st.integers(1, 20))
    texts = st.none() | st.text(max_size=70)
    column = st.lists(texts, min_size=rows, max_size=rows).map(lambda values: pa.array(values, pa.string()))
    codes = st.integers(1, 5).flatmap(
        lambda size: st.builds(
            lambda places, values: Coded(np.array(places, np.int32), pa.array(values, pa.string())),
            st.lists(st.integers(0, size - 1), min_size=rows, max_size=rows),
            st.lists(texts, min_size=size, max_size=size),
        )
    )
    found: list[Segment] = draw(st.lists(st.binary(max_size=9).map(lambda b: b.hex().encode()) | column | codes))
    return [*found, draw(column)]


@given(segments())
def test_segments_are_joined(found: list[Segment]) -> None:
    with pure():
        expected = join(found, nulls="replace")
    assert join(found, nulls="replace").equals(expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1500), min_size=2, max_size=6), st.integers(0, 2**32), st.booleans())
def test_runs_of_many_combinations_are_joined(sizes: list[int], seed: int, listed: bool) -> None:
    rows, chance = 3000, random.Random(seed)
    columns = [
        Coded(
            np.array([chance.randrange(size) for _ in range(rows)], np.int32),
            pa.array([None if chance.random() < 0.1 else f"<{place}.{code}>" for code in range(size)], pa.string()),
        )
        for place, size in enumerate(sizes)
    ]
    members = [all_or_none((b",", column)) for column in (*columns, columns[0])]
    found = join([b"[", Group(members, is_listed=True)] if listed else [b"[", *members, columns[1]], nulls="replace")
    texts = [column.rows().to_pylist() for column in (*columns, columns[0])]
    if listed:
        expected = ["[" + ",".join(text for text in row if text) for row in zip(*texts)]
    else:
        last = columns[1].rows().to_pylist()
        expected = ["[" + "".join(f",{text}" for text in row if text) + (end or "") for *row, end in zip(*texts, last)]
    assert found.to_pylist() == expected


def test_columns_that_begin_within_others_are_joined() -> None:
    column = pa.array(["zero", None, "two", "three", None])
    numbers = pa.array([0, 1, 22, 2**63 - 1, 4])
    joined = join([b"<", column.slice(1, 3), b"|", numbers.slice(1, 3), b">"], nulls="replace")
    assert joined.to_pylist() == ["<|1>", "<two|22>", f"<three|{2**63 - 1}>"]


@given(st.lists(st.sampled_from(["", "1.2.3.4", "::1", "a"]) | st.ip_addresses().map(str) | st.text("0123456789.:abf")))
def test_addresses_are_parsed(texts: list[str | None]) -> None:
    column = pa.array([*texts, None], pa.string())
    with pure():
        expected = parse_addresses(column)
    found = parse_addresses(column)
    assert found.valid.tolist() == expected.valid.tolist()
    for row in np.flatnonzero(expected.valid):
        assert found.packed[row].tobytes() == expected.packed[row].tobytes()
        assert found.is_v6[row] == expected.is_v6[row]


@given(
    st.lists(
        st.tuples(
            st.ip_addresses(v=4) | st.ip_addresses(v=6),
            st.ip_addresses(v=4) | st.ip_addresses(v=6),
            st.sampled_from([0, 1, 6, 17, 47, 58, 132, 255]),
            st.integers(0, 65535),
            st.integers(0, 65535),
        ),
        min_size=1,
    )
)
def test_flows_have_the_same_community_ids(flows: list[tuple[object, object, int, int, int]]) -> None:
    source, destination = (parse_addresses(pa.array([str(flow[side]) for flow in flows])) for side in (0, 1))
    numbers = [np.array([flow[place] for flow in flows], np.int32) for place in (2, 3, 4)]
    with pure():
        expected = community_ids(source, destination, *numbers)
    assert community_ids(source, destination, *numbers).to_pylist() == expected.to_pylist()


@given(TEXTS | st.lists(st.none() | st.integers(0, 9), min_size=1))
def test_columns_are_coded(values: list[str | int | None]) -> None:
    column = pa.array(values, pa.string() if any(isinstance(value, str) for value in values) else pa.int64())
    with pure():
        expected = by_value(column)
    found = by_value(column)
    assert found.codes.tolist() == expected.codes.tolist()
    assert found.values.equals(expected.values)
    assert found.rows().equals(column)


def test_a_column_of_many_values_is_not_coded() -> None:
    for column in (pa.array(range(9000)), pa.array([str(number) for number in range(9000)])):
        assert coded(column) is None
        assert coded(column.slice(0, 1000)) is not None


@given(st.integers(1, 30), st.lists(st.sampled_from([1, 2, 3, 1 << 20, 1 << 31]), min_size=1, max_size=5), st.randoms())
def test_combinations_of_codes_are_numbered(rows: int, counts: list[int], chance: random.Random) -> None:
    columns = [(np.array([chance.randrange(count) % 2**31 for _ in range(rows)], np.int32), count) for count in counts]
    combinations = list(zip(*(codes.tolist() for codes, _ in columns)))
    with pure():
        expected = numbered(columns)
    for met, at in (numbered(columns), expected):
        assert len({combinations[row] for row in met}) == len(met) == len(set(combinations))
        assert [combinations[row] for row in met[at]] == combinations


@given(st.lists(st.integers(0, 5), min_size=1))
def test_distinct_values_are_told_by_their_first_rows(values: list[int]) -> None:
    column = np.array(values, np.uint64)
    with pure():
        expected = distinct(column)
    for first, at in (distinct(column), expected):
        assert sorted(first) == sorted(values.index(value) for value in set(values))
        assert column[first][at].tolist() == values


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            *[st.sampled_from([0, 1, 1500, 2**62, 2**63 - 1])] * 2,
            *[st.integers(0, 2**41)] * 2,
        ),
        min_size=1,
    )
)
def test_rows_are_tallied(rows: list[tuple[int, ...]]) -> None:
    at, *columns = (np.array(column, np.int64) for column in zip(*rows))
    octets, packets, firsts, lasts = columns
    with pure():
        expected = tallied(at, 5, (octets, packets), firsts, lasts)
    found = tallied(at, 5, (octets, packets), firsts, lasts)
    assert [column.tolist() for column in found] == [column.tolist() for column in expected]
    assert sum(found.bytes.tolist()) == sum(row[1] for row in rows)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2) | st.just(2**63 - 1), st.integers(0, 2**64 - 1))))
def test_rows_are_ranked(rows: list[tuple[int, int, int]]) -> None:
    groups, sizes, items = (np.array([row[place] for row in rows], kind) for place, kind in enumerate("llL"))
    expected = sorted(rows, key=lambda row: (row[0], -row[1], row[2]))
    with pure():
        assert [rows[place] for place in ranked(groups, sizes, items)] == expected
    assert [rows[place] for place in ranked(groups, sizes, items)] == expected


def test_columns_of_different_lengths_are_not_ranked() -> None:
    with pytest.raises(ValueError, match="a column to rank by has 1 elements, not 2"):
        ranked(np.zeros(2, np.int64), np.zeros(1, np.int64), np.zeros(2, np.uint64))


@given(st.lists(st.none() | st.integers(0, 9)), st.sampled_from([pa.int32(), pa.int64()]), st.integers(0, 3))
def test_numbers_are_found_at_places(values: list[int | None], kind: pa.DataType, begin: int) -> None:
    column, values = pa.array(values, kind).slice(begin), values[begin:]
    at = np.arange(len(values))[::-2]
    for places in (None, at):
        chosen = values if places is None else [values[place] for place in places]
        found, there = kernel.number_buffers(column, places)
        assert found.tolist() == [value or 0 for value in chosen]
        assert (there is None) == (None not in values)
        assert there is None or there.tolist() == [value is not None for value in chosen]


def test_places_beside_those_that_there_are_stop_the_kernel() -> None:
    numbers = np.zeros(2, np.int64)
    for places in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="a place is not one"):
            tallied(np.array(places), 2, (numbers, numbers), numbers, numbers)


def test_what_is_listed_begins_with_a_comma() -> None:
    column, numbers = kernel.string_buffers(pa.array(["a"])), kernel.number_buffers(pa.array([1]))
    with pytest.raises(ValueError, match="comma"):
        kernel.compiled.Join([b"[", (True, [numbers])])
    with pytest.raises(ValueError, match="empty"):
        kernel.compiled.Join([(*column, None), b"[", (True, [])])


VALUES = st.sampled_from(
    [
        *("-", "", "0", "7", "007", "+7", "-7", "0x7", "1e3", "2147483647", "2147483648"),
        *("12345678", "123456789", "1234567890123456", "12345678901234567", "1234567x", "x2345678901"),
        *("9" * 18, "9" * 19, "9" * 20, "10.0.0.1", "::1", "ACCEPT", "\u00fc", "\ufeff", "a\tb", "\r", "1764000059"),
    ]
)


@settings(max_examples=300)
@given(
    names=st.lists(st.sampled_from(DEFAULT_FORMAT), min_size=1, max_size=5, unique=True),
    lines=st.lists(st.lists(VALUES, min_size=1, max_size=6).map(" ".join), max_size=8),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
)
def test_lines_are_read(names: list[str], lines: list[str], end: str) -> None:
    data = "\n".join([" ".join(names), *lines]).encode() + end.encode()
    with pure():
        expected = _decoded(data)
    assert _decoded(data) == expected


def _decoded(data: bytes) -> list[object]:
    found = list(decode(iter([data]), Limits(), slot_ms=1_764_000_000_000))
    return [
        (rows.batch.schema, rows.batch.to_pydict(), rows.numbers.tolist(), rows.bad, rows.more_bad) for rows in found
    ]


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden.name for golden in GOLDEN])
def test_documents_are_the_same(golden: Golden) -> None:
    with pure():
        expected = _items(golden)
    assert len(expected) == len(golden.documents)
    assert _items(golden) == expected


def test_a_kernel_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "compiled", object())
    with pytest.raises(AttributeError):
        _items(GOLDEN[0])


def test_a_kernel_of_other_sources_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert kernel._module() is kernel.compiled
    monkeypatch.setattr(kernel, "_INTERFACE", -1)
    assert kernel._module() is None
    assert "install the package again" in caplog.text


def test_what_a_header_asks_for_is_bounded_by_what_is_there() -> None:
    assert kernel.compiled.parse_text(b"\n" * 1000, "s" * 10**6) is None


def _items(golden: Golden) -> list[list[object]]:
    """Return actions and documents as JSON: the members of a document may stand in another order."""
    return [
        [*map(orjson.loads, item.splitlines())]
        for rows in decode(iter([golden.data]), Limits(), names=golden.names, slot_ms=golden.slot_ms)
        for item in bulk_items(rows, golden.origin).to_pylist()
    ]
