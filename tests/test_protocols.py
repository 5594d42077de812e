"""Protocol keywords, held against the numbers that Python's own socket module has."""

from __future__ import annotations

import socket

import pytest

from beam_flowlogs.protocols import PROTOCOLS


@pytest.mark.parametrize(
    ("constant", "keyword"),
    [
        ("IPPROTO_ICMP", "icmp"), ("IPPROTO_IGMP", "igmp"), ("IPPROTO_TCP", "tcp"), ("IPPROTO_EGP", "egp"),
        ("IPPROTO_PUP", "pup"), ("IPPROTO_UDP", "udp"), ("IPPROTO_IDP", "xns-idp"), ("IPPROTO_TP", "iso-tp4"),
        ("IPPROTO_IPV6", "ipv6"), ("IPPROTO_ROUTING", "ipv6-route"), ("IPPROTO_FRAGMENT", "ipv6-frag"),
        ("IPPROTO_RSVP", "rsvp"), ("IPPROTO_GRE", "gre"), ("IPPROTO_ESP", "esp"), ("IPPROTO_AH", "ah"),
        ("IPPROTO_ICMPV6", "ipv6-icmp"), ("IPPROTO_NONE", "ipv6-nonxt"), ("IPPROTO_DSTOPTS", "ipv6-opts"),
        ("IPPROTO_PIM", "pim"), ("IPPROTO_SCTP", "sctp"),
    ],
)  # fmt: skip
def test_a_keyword_stands_at_its_number(constant: str, keyword: str) -> None:
    assert PROTOCOLS[getattr(socket, constant)] == keyword


# Landmarks between those, so that no keyword can be missing or be there twice without one of them being displaced.
@pytest.mark.parametrize(
    ("number", "keyword"),
    [
        (0, "hopopt"), (4, "ipv4"), (21, "prm"), (27, "rdp"), (33, "dccp"), (55, "min-ipv4"), (60, "ipv6-opts"),
        (62, "cftp"), (64, "sat-expak"), (67, "ippc"), (69, "sat-mon"), (88, "eigrp"), (89, "ospfigp"), (94, "ipip"),
        (98, "encap"), (100, "gmtp"), (108, "ipcomp"), (112, "vrrp"), (113, "pgm"), (115, "l2tp"), (121, "smp"),
        (124, "isis-over-ipv4"), (133, "fc"), (136, "udplite"), (137, "mpls-in-ip"), (139, "hip"), (143, "ethernet"),
        (147, "bit-emu"),
    ],
)  # fmt: skip
def test_landmarks_of_the_registry_stand_at_their_numbers(number: int, keyword: str) -> None:
    assert PROTOCOLS[number] == keyword


@pytest.mark.parametrize("number", [61, 63, 68, 99, 114, 148, 200, 252, 253, 254, 255])
def test_a_number_without_a_keyword_has_none(number: int) -> None:
    assert number not in PROTOCOLS


def test_keywords_are_lower_case_and_stand_once() -> None:
    assert all(keyword == keyword.lower() and " " not in keyword for keyword in PROTOCOLS.values())
    assert len(set(PROTOCOLS.values())) == len(PROTOCOLS)
