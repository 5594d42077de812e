"""Rendering column by column says what rendering record by record would say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_flowlogs.document import Origin, bulk_items, row_ids
from beam_flowlogs.fields import FIELDS, Kind
from beam_flowlogs.inflate import Limits
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rows import Rows
from tests.reference_document import ADDRESSES, NUMBERS, TRANSPORTS, reference_document

START = 1_764_000_000
SLOT_MS = 1_764_000_300_000
BUCKET, KEY = "a-bucket", 'a "key"\\ with\nwhat needs escaping \u2014'


def _rows(*lines: str) -> Rows:
    in_one = Limits(piece_bytes=64 << 20)
    (rows,) = decode(iter(["\n".join([*lines, ""]).encode()]), in_one, slot_ms=SLOT_MS)
    assert rows.bad == ()
    return rows


def _items(rows: Rows, origin: Origin | None = None) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each item's action and document."""
    for item in bulk_items(rows, origin or Origin(BUCKET, KEY, "A" * 16)).to_pylist():
        assert item.endswith(b"\n")
        action, document = item[:-1].split(b"\n")
        yield json.loads(action), json.loads(document)


def test_the_table_and_the_reference_agree_which_fields_are_numbers_and_addresses() -> None:
    assert {field.name for field in FIELDS if field.kind.is_number} == NUMBERS
    assert {field.name for field in FIELDS if field.kind is Kind.ADDRESS} == set(ADDRESSES)


_ADDRESSES = st.sampled_from(
    ["10.0.0.1", "10.0.0.2", "255.255.255.255", "0.0.0.0", "::1", "2001:db8::1", "::ffff:10.0.0.1", "2001:DB8::A"]
)
_WORDS = st.sampled_from(["a", "eni-1", "ACCEPT", "REJECT", "unknown", 'q"uote', "back\\slash", "h\u00f6hle", "\x01"])


def _values(name: str) -> st.SearchStrategy[str]:
    if name in ("start", "end"):
        seconds = st.integers(START - 100_000, START + 100_000)
        return (seconds | seconds.map(lambda time: time * 1000) | seconds.map(lambda time: time * 1000 + 7)).map(str)
    if name in ADDRESSES:
        return _ADDRESSES
    if name == "protocol":
        return st.sampled_from(sorted(TRANSPORTS)).map(str)
    if name in NUMBERS:
        return st.integers(0, 70 if name == "tcp-flags" else 65535).map(str)
    return _WORDS


@st.composite
def _tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    known = [field.name for field in FIELDS]
    names = draw(st.lists(st.sampled_from([*known, "new-field"]), min_size=1, max_size=20, unique=True))
    names = draw(st.permutations([*names, *({"log-status", "bytes"} - set(names))]))
    drawn = st.tuples(*(st.just("-") | _values(name) for name in names)).map(list)
    return names, draw(st.lists(drawn, min_size=1, max_size=12))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_tables(), st.sampled_from(["", "210987654321"]), st.sampled_from(["", "eu-west-1"]))
def test_any_records_become_the_documents_of_the_reference(
    table: tuple[list[str], list[list[str]]], account_id: str, region: str
) -> None:
    names, records = table
    rows = _rows(" ".join(names), *(" ".join(record) for record in records))
    expected = [
        reference_document(dict(zip(names, record)), at, BUCKET, KEY, account_id, region, SLOT_MS)
        for at, record in enumerate(records)
    ]

    origin = Origin(BUCKET, KEY, "A" * 16, account_id, region)
    assert [document for _, document in _items(rows, origin)] == expected


@pytest.mark.parametrize("lacking", [0.0, 0.1, 0.9], ids=["complete", "with gaps", "mostly gaps"])
def test_records_of_many_values_become_the_documents_of_the_reference(lacking: float) -> None:
    # Beyond some thousand combinations columns are rendered by row and not by value.
    chance = random.Random(7)
    names = [field.name for field in FIELDS if field.name != "protocol"] + ["protocol", "new-field"]

    def value(name: str) -> str:
        if name != "log-status" and chance.random() < lacking:
            return "-"
        if name in ("start", "end"):
            return str(START * 1000 + chance.randrange(10_000_000))
        if name in ADDRESSES:
            return str(ip_address(chance.getrandbits(32) if chance.random() < 0.7 else chance.getrandbits(128)))
        if name == "protocol":
            return str(chance.choice(sorted(TRANSPORTS)))
        return str(chance.randrange(1 << 16)) if name in NUMBERS else f'{chance.randrange(1 << 20)}"\u00e9'

    records = [[value(name) for name in names] for _ in range(3000)]
    rows = _rows(" ".join(names), *(" ".join(record) for record in records))

    documents = [document for _, document in _items(rows, Origin(BUCKET, KEY, "A" * 16, "1", "eu-west-1"))]

    assert documents == [
        reference_document(dict(zip(names, record)), at, BUCKET, KEY, "1", "eu-west-1", SLOT_MS)
        for at, record in enumerate(records)
    ]


def test_an_item_creates_a_document_in_the_index_of_its_day_whatever_time_zone_the_machine_is_in() -> None:
    rows = _rows("end bytes", f"{START} 1", f"{START + 86_400} 1", f"{START - 57_601} 1")

    actions = [action for action, _ in _items(rows)]

    assert [action["create"]["_index"] for action in actions] == [
        "flowlogs-raw-2025.11.24",
        "flowlogs-raw-2025.11.25",
        "flowlogs-raw-2025.11.23",
    ]
    assert [action["create"]["_id"] for action in actions] == [f"{'A' * 16}AAA{last}" for last in "ABC"]


def test_a_member_name_that_repeats_a_parents_is_never_made() -> None:
    document = next(_items(_rows("tcp-flags end", f"18 {START}")))[1]

    assert document["aws"]["vpcflow"]["tcp_flags"] == 18
    assert document["aws"]["vpcflow"]["tcp_flags_array"] == ["syn", "ack"]


def test_every_combination_of_tcp_flags_is_named_bit_by_bit() -> None:
    bits = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32}

    for number, (_, document) in enumerate(_items(_rows("tcp-flags end", *(f"{at} {START}" for at in range(512))))):
        found = document["aws"]["vpcflow"]
        assert found["tcp_flags"] == number
        assert found.get("tcp_flags_array", []) == [name for name, bit in bits.items() if number & bit]


def test_ids_are_distinct_and_keep_their_length_for_the_first_sixteen_million_rows() -> None:
    numbers = np.array([0, 1, 63, 64, 4095, 4096, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, 1 << 40])
    identity, texts = row_ids(Origin("b", "k", "identity"), numbers)

    assert identity == b"identity"
    assert [len(text) for text in texts.to_pylist()] == [4] * 7 + [8] * 3
    assert len(set(texts.to_pylist())) == len(numbers)
    assert texts.to_pylist()[:4] == ["AAAA", "AAAB", "AAA_", "AABA"]
