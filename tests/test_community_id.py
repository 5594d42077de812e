"""Community IDs against the public vectors of the specification, and against a plain implementation of it."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.addresses import parse_addresses
from beam_flowlogs.community_id import community_ids

Flow = tuple[str, str, int, int, int]


def _ids(*flows: Flow) -> list[str | None]:
    source, destination, protocol, source_port, destination_port = zip(*flows)
    return community_ids(
        parse_addresses(pa.array(source, pa.string())),
        parse_addresses(pa.array(destination, pa.string())),
        np.array(protocol),
        np.array(source_port),
        np.array(destination_port),
    ).to_pylist()


# Source: baseline/baseline_deflt.json of github.com/corelight/community-id-spec (version 1, seed 0, base64).
@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (("128.232.110.120", "66.35.250.204", 6, 34855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("66.35.250.204", "128.232.110.120", 6, 80, 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("192.168.1.52", "8.8.8.8", 17, 54585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (("8.8.8.8", "192.168.1.52", 17, 53, 54585), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (("192.168.170.8", "192.168.170.56", 132, 7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
        (("192.168.170.56", "192.168.170.8", 132, 7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
        # A protocol without ports (46, RSVP) is hashed without them, whatever stands in their columns.
        (("10.1.12.1", "10.1.12.2", 46, 0, 0), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        (("10.1.12.2", "10.1.12.1", 46, 1, 2), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        (
            ("2607:f8b0:400c:c03::1a", "2001:470:e5bf:dead:4957:2174:e82c:4887", 6, 25, 63943),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
        (
            ("2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 6, 63943, 25),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
        # ICMP's type is not logged and counts as 0, an echo reply: that of the vector's pinged host.
        (("192.168.0.1", "192.168.0.89", 1, 0, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ],
)
def test_the_public_vectors_hold(flow: Flow, expected: str) -> None:
    assert _ids(flow) == [expected]


def _plain(source: str, destination: str, protocol: int, source_port: int, destination_port: int) -> str:
    """The specification, word for word, for one flow."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    left, right = socket.inet_pton(family, source), socket.inet_pton(family, destination)
    if protocol == 1:
        source_port, destination_port = 0, 8
    if protocol == 58:
        source_port = destination_port = 0
    elif (left, source_port) > (right, destination_port):
        left, right, source_port, destination_port = right, left, destination_port, source_port
    message = struct.pack(">H", 0) + left + right + bytes([protocol, 0])
    if protocol in (1, 6, 17, 58, 132):
        message += struct.pack(">HH", source_port, destination_port)
    return "1:" + base64.b64encode(hashlib.sha1(message).digest()).decode()


PORTS = st.sampled_from([0, 1, 53, 443, 65535])
PROTOCOLS = st.sampled_from([1, 6, 17, 47, 58, 132, 255])
PAIRS = st.one_of(
    st.tuples(*[st.ip_addresses(v=4).map(str)] * 2),
    st.tuples(*[st.ip_addresses(v=6).map(str)] * 2),
    st.ip_addresses().map(str).map(lambda address: (address, address)),
)


@given(st.lists(st.tuples(PAIRS, PROTOCOLS, PORTS, PORTS), min_size=1, max_size=40))
def test_a_batch_hashes_like_its_flows_one_by_one(flows: list[tuple[tuple[str, str], int, int, int]]) -> None:
    given_flows = [(*pair, *rest) for pair, *rest in flows]

    assert _ids(*given_flows) == [_plain(*flow) for flow in given_flows]  # type: ignore[arg-type]


def test_a_flow_without_two_addresses_of_a_family_has_no_id() -> None:
    assert _ids(("10.0.0.1", "::1", 6, 1, 2), ("10.0.0.1", "10.0.0.2", 6, 1, 2))[0] is None
