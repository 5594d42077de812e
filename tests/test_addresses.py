"""Addresses: what is one, its bytes, and that a whole column gives what each of its rows would."""

from __future__ import annotations

import ipaddress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs.addresses import parse_addresses

ADDRESSES = {
    "0.0.0.0": True, "255.255.255.255": True, "10.0.0.1": True, "192.0.2.255": True,
    "256.0.0.1": False, "1.2.3.1000": False, "1.2.3": False, "1.2.3.4.5": False, "1.2.3.": False, ".1.2.3": False,
    "1..2.3": False, "01.2.3.4": False, "1.2.3.04": False, "00.0.0.0": False, "1.2.3.4 ": False, "1.2.3.-4": False,
    "0x1.2.3.4": False, "16909060": False, "1.2.3.4/8": False, "1.2.3.4:80": False, "localhost": False, "": False,
    "\u0661.2.3.4": False, "1.2.3.4\0": False, "1.2.3.a": False,
    "::": True, "::1": True, "2001:db8::1": True, "2001:DB8::A": True, "1:2:3:4:5:6:7:8": True, "::ffff:10.0.0.1": True,
    "fe80::1%eth0": False, "fe80::1%1": False, "[::1]": False, ":::": False, "1::2::3": False, "12345::": False,
    "1:2:3:4:5:6:7": False, "1:2:3:4:5:6:7:8:9": False, "::1\0": False, ":": False, "::ffff:10.0.0.256": False,
    "::ffff:10.0.0.01": False, "g::": False, "1:2:3:4:5:6:7:": False, ":1:2:3:4:5:6:7": False, "::00001": False,
}  # fmt: skip
"""Text, and whether it is an address. The integration test shows that Elasticsearch agrees."""


@pytest.mark.parametrize(("text", "valid"), ADDRESSES.items(), ids=map(repr, ADDRESSES))
@pytest.mark.parametrize("neighbours", [[], ["10.0.0.1"] * 3, ["::1", None, "bad"]], ids=["alone", "v4", "mixed"])
def test_an_address_is_what_elasticsearch_takes_for_one(text: str, valid: bool, neighbours: list[str | None]) -> None:
    parsed = parse_addresses(pa.array([*neighbours, text], pa.string()))

    assert bool(parsed.valid[-1]) == valid
    if valid:
        packed = ipaddress.ip_address(text).packed
        assert parsed.packed[-1].tobytes().rstrip(b"\0") == packed.rstrip(b"\0")
        assert bool(parsed.is_v6[-1]) == (len(packed) == 16)


TEXTS = st.one_of(
    st.none(),
    st.ip_addresses().map(str),
    st.sampled_from(list(ADDRESSES)),
    st.text(st.sampled_from("0123456789.:"), max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=12), st.integers(0, 3))
def test_a_column_gives_what_each_of_its_rows_would(texts: list[str | None], skipped: int) -> None:
    parsed = parse_addresses(pa.array(texts, pa.string())[skipped:])

    for at, text in enumerate(texts[skipped:]):
        alone = parse_addresses(pa.array([text], pa.string()))
        assert bool(parsed.valid[at]) == bool(alone.valid[0])
        assert parsed.packed[at].tobytes() == alone.packed[0].tobytes() or not alone.valid[0]
        assert bool(parsed.is_v6[at]) == bool(alone.is_v6[0])


def test_an_absent_address_is_neither_valid_nor_of_a_family() -> None:
    parsed = parse_addresses(pa.array([None, "::1"]))

    assert parsed.valid.tolist() == [False, True]
    assert parsed.is_v6.tolist() == [False, True]


def test_a_column_without_rows_or_values_is_read() -> None:
    assert len(parse_addresses(pa.array([], pa.string())).valid) == 0
    assert parse_addresses(pa.nulls(3, pa.string())).valid.tolist() == [False] * 3
