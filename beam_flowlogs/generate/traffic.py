"""Everyday traffic of one stream, column-wise: conversations are drawn, then expanded into the records they leave.

A conversation has a client (C), a server (S) and sometimes somebody between them (M: a NAT gateway, a load balancer).
A template lists its *legs*: who logs it, from whom to whom, and whether it is the reply.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from beam_flowlogs.generate.config import SLOT_SECONDS, GeneratorConfig
from beam_flowlogs.generate.rows import Bools, Floats, Ints, Rows, draw, new_rows, zipf
from beam_flowlogs.generate.world import Block, World

ICMP, TCP, UDP = 1, 6, 17
IPV6_SHARE = 0.12
_C, _S, _M, _NOBODY = 0, 1, 2, 3
_LOCAL, _OUT = 1, 2  # routes: inside the stream's VPCs, or out of them


class _Leg(NamedTuple):
    at: int
    src: int
    dst: int
    hop: int
    reply: bool
    egress: bool
    route: int = 0
    pkt_src: int = -1  # -1: as src, dst
    pkt_dst: int = -1


_INBOUND = (_Leg(_S, _C, _S, _NOBODY, False, False), _Leg(_S, _S, _C, _NOBODY, True, True, _OUT))
_OUTBOUND = (_Leg(_C, _C, _S, _NOBODY, False, True, _OUT), _Leg(_C, _S, _C, _NOBODY, True, False))
_REFUSED = (_Leg(_S, _C, _S, _NOBODY, False, False),)
_INTERNAL = (
    _Leg(_C, _C, _S, _S, False, True, _LOCAL),
    _Leg(_S, _C, _S, _C, False, False),
    _Leg(_S, _S, _C, _C, True, True, _LOCAL),
    _Leg(_C, _S, _C, _S, True, False),
)
# Behind a NAT gateway the interface's side shows the gateway; the packet's addresses tell who really talks.
_NATTED = (
    _Leg(_C, _C, _S, _M, False, True, _LOCAL),
    _Leg(_M, _C, _M, _C, False, False, 0, _C, _S),
    _Leg(_M, _M, _S, _NOBODY, False, True, _OUT),
    _Leg(_M, _S, _M, _NOBODY, True, False),
    _Leg(_M, _M, _C, _C, True, True, _LOCAL, _S, _C),
    _Leg(_C, _S, _C, _M, True, False),
)
_BALANCED = (
    _Leg(_M, _C, _M, _NOBODY, False, False),
    _Leg(_M, _M, _S, _S, False, True, _LOCAL),
    _Leg(_S, _M, _S, _M, False, False),
    _Leg(_S, _S, _M, _M, True, True, _LOCAL),
    _Leg(_M, _S, _M, _S, True, False),
    _Leg(_M, _M, _C, _NOBODY, True, True, _OUT),
)
# A transit gateway sees a packet come in from one attachment (ingress) and go out to the other (egress).
_TRANSIT = (
    _Leg(_C, _C, _S, _S, False, False),
    _Leg(_S, _C, _S, _C, False, True),
    _Leg(_S, _S, _C, _C, True, False),
    _Leg(_C, _S, _C, _S, True, True),
)
_VPN = (_Leg(_C, _C, _S, _NOBODY, False, False), _Leg(_C, _S, _C, _NOBODY, True, True))
_TEMPLATES = (_INBOUND, _OUTBOUND, _REFUSED, _INTERNAL, _NATTED, _BALANCED, _TRANSIT, _VPN)
_LEGS = np.array([leg for template in _TEMPLATES for leg in template], dtype=np.int64)
_LENGTHS = np.array([len(template) for template in _TEMPLATES])
_OFFSETS = np.concatenate([[0], np.cumsum(_LENGTHS)[:-1]])

_Side = str | tuple[str, ...]  # a block of foreign addresses by name, or roles of points


class _Pattern(NamedTuple):
    weight: float
    template: tuple[_Leg, ...]
    protocol: int
    ports: tuple[int, ...]
    clients: _Side
    servers: _Side
    middle: tuple[str, ...] = ()
    packets: float = 8  # median of a request
    size: int = 180  # bytes in a packet of a request
    answer: float = 1.5  # packets of the reply for each packet of the request
    answer_size: int = 900
    accept: bool = True


_PUBLIC = ("web", "ecs")
_KNOCKED = (23, 445, 3389, 22, 8080, 5900, 1433, 6379, 2375, 9200, 8443, 5060, 21, 25)
_PATTERNS = (
    _Pattern(18, _INBOUND, TCP, (443, 443, 443, 80), "internet", _PUBLIC, answer=2.5, answer_size=1200),
    _Pattern(4, _INBOUND, UDP, (443,), "internet", ("web",), packets=20, size=300, answer=3, answer_size=1250),
    _Pattern(0.5, _INBOUND, TCP, (22,), "internet", ("bastion",), packets=40, size=90, answer_size=140),
    _Pattern(1, _INBOUND, ICMP, (0,), "internet", _PUBLIC, packets=3, size=84, answer=1, answer_size=84),
    _Pattern(5, _BALANCED, TCP, (443,), "internet", ("app",), ("balancer",), answer=2.5, answer_size=1200),
    _Pattern(8, _OUTBOUND, TCP, (443,), ("web", "app", "ecs"), "aws", packets=15, size=700, answer=1.2),
    _Pattern(2, _OUTBOUND, UDP, (123,), ("web", "app", "db"), "internet", (), 1, 76, 1, 76),
    _Pattern(4, _NATTED, TCP, (443, 443, 80), ("app", "db", "cache"), "internet", ("nat",)),
    _Pattern(2, _NATTED, TCP, (443,), ("app", "db", "ecs"), "internet", ("regional-nat",)),
    _Pattern(8, _INTERNAL, TCP, (5432, 3306), ("web", "app", "ecs"), ("db",), (), 12, 250, 1.2, 700),
    _Pattern(5, _INTERNAL, TCP, (6379,), ("web", "app"), ("cache",), (), 20, 110, 1, 240),
    _Pattern(5, _INTERNAL, TCP, (8080, 8443), ("web",), ("app", "ecs"), (), 10, 400, 1.3, 800),
    _Pattern(3, _INTERNAL, TCP, (443,), ("app", "ecs"), ("service",), (), 10, 500, 1.1, 600),
    _Pattern(1, _INTERNAL, TCP, (22,), ("app", "bastion"), ("web", "db"), (), 40, 90, 1, 140),
    _Pattern(5, _INTERNAL, UDP, (53,), ("web", "app", "db", "ecs"), ("dns",), (), 1, 70, 1, 160),
    _Pattern(1, _INTERNAL, ICMP, (0,), ("app",), ("web", "db"), (), 3, 84, 1, 84),
    _Pattern(10, _REFUSED, TCP, _KNOCKED, "noise", ("web", "nat", "balancer", "bastion"), (), 1, 44, accept=False),
    _Pattern(3, _REFUSED, UDP, (1900, 5060, 161, 389), "noise", _PUBLIC, (), 1, 90, accept=False),
    _Pattern(1, _REFUSED, ICMP, (0,), "noise", ("balancer", "nat"), (), 1, 84, accept=False),
    _Pattern(14, _TRANSIT, TCP, (443, 5432, 8080, 22), ("spoke",), ("shared",), (), 12, 300, 1.3, 700),
    _Pattern(4, _TRANSIT, UDP, (53,), ("spoke",), ("shared",), (), 1, 70, 1, 160),
    _Pattern(1, _TRANSIT, ICMP, (0,), ("spoke",), ("shared",), (), 3, 84, 1, 84),
    _Pattern(6, _VPN, TCP, (443, 1433), ("spoke", "shared"), "onprem", (), 12, 300, 1.3, 700),
)

# How much of a TCP connection falls into one capture window, and the flags that are then logged for either side.
# An ACK alone is logged as 0.
_PHASES = np.cumsum([0.55, 0.15, 0.2, 0.1])
_REQUEST_FLAGS = np.array([3, 2, 0, 1])
_REPLY_FLAGS = np.array([19, 18, 0, 1])


class Traffic:
    """A source of everyday records of one stream, in which the points of ``muted`` take no part."""

    def __init__(self, config: GeneratorConfig, world: World, stream: int, muted: Collection[int] = ()) -> None:
        self.config = config
        self.world = world
        self.stream = stream
        self.muted = muted
        self.zipf = {
            name: np.cumsum(zipf(getattr(world, name).size, 1.1)) for name in ("internet", "noise", "aws", "onprem")
        }
        self.patterns = [p for p in _PATTERNS if all(self._exists(s) for s in (p.clients, p.servers, p.middle or "-"))]
        weights = np.array([p.weight for p in self.patterns], dtype=np.float64)
        self.pattern_weights = np.cumsum(weights / weights.sum())
        self.templates = np.array([_TEMPLATES.index(p.template) for p in self.patterns])
        self.sides = {
            side: self._points(side) for p in self.patterns for side in (p.clients, p.servers, p.middle) if side
        }

    def _exists(self, side: _Side) -> bool:
        return isinstance(side, str) or len(self._points(side)[0]) > 0

    def _points(self, side: _Side) -> tuple[Ints, Floats]:
        """Return the points that may stand on ``side``, and their cumulative weights."""
        points = [p for p in self.world.points(self.stream, side) if p not in self.muted]
        weights = self.world.weights[points]
        return np.array(points, dtype=np.int64), np.cumsum(weights / weights.sum())

    def rows(self, rng: np.random.Generator, slot_start: int, count: int) -> Rows:
        """Return ``count`` records whose ``end`` lies in the slot."""
        # An upper bound: every conversation leaves at least one record.
        kinds = draw(rng, self.pattern_weights, count)
        kinds = kinds[: 1 + np.searchsorted(np.cumsum(_LENGTHS[self.templates[kinds]]), count)]
        return self._expand(rng, kinds, slot_start)[:count]

    def _expand(self, rng: np.random.Generator, kinds: Ints, slot_start: int) -> Rows:
        talks = _Talks(self, rng, kinds)
        template = self.templates[kinds]
        lengths = _LENGTHS[template]
        talk = np.repeat(np.arange(len(kinds)), lengths)
        position = np.arange(len(talk)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        leg = _OFFSETS[template][talk] + position
        at, src, dst, hop, reply, egress, route, pkt_src, pkt_dst = _LEGS[leg].T
        reply = reply.astype(bool)
        pkt_src = np.where(pkt_src < 0, src, pkt_src)
        pkt_dst = np.where(pkt_dst < 0, dst, pkt_dst)
        point, next_point = talks.points[at, talk], talks.points[hop, talk]
        client_port, server_port = talks.client_port[talk], talks.server_port[talk]
        end = slot_start + rng.integers(0, SLOT_SECONDS, len(kinds))[talk]
        lasted = np.minimum(rng.exponential(25, len(kinds)), self.config.aggregation - 1).astype(np.int64)[talk]
        window = (end - self.world.phase[point]) % self.config.aggregation
        same_vpc = self.world.vpc[point] == self.world.vpc[next_point]
        local = np.where(same_vpc, 1, 4)  # 4: peered in the region
        return new_rows(
            len(talk),
            point=point,
            hop=next_point,
            src=talks.addresses[src, talk],
            dst=talks.addresses[dst, talk],
            pkt_src=talks.addresses[pkt_src, talk],
            pkt_dst=talks.addresses[pkt_dst, talk],
            srcport=np.where(reply, server_port, client_port),
            dstport=np.where(reply, client_port, server_port),
            protocol=talks.protocol[talk],
            packets=np.where(reply, talks.reply_packets[talk], talks.packets[talk]),
            bytes=np.where(reply, talks.reply_bytes[talk], talks.bytes[talk]),
            start=end - np.minimum(lasted, window),
            end=end,
            accept=talks.accept[talk],
            tcp_flags=np.where(reply, talks.reply_flags[talk], talks.flags[talk]),
            egress=egress,
            path=np.where(route == _LOCAL, local, np.where(route == _OUT, talks.way_out[talk], 0)),
        )


class _Talks:
    """Drawn conversations, as columns: who talks (points and addresses by actor), how, and how much."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator, kinds: Ints) -> None:
        count = len(kinds)
        self.world = traffic.world
        self.points = np.full((4, count), -1, dtype=np.int64)
        self.addresses = np.zeros((3, count), dtype=np.int64)
        self.server_port = np.zeros(count, dtype=np.int64)
        self.way_out = np.full(count, 8)  # by internet gateway
        for kind, pattern in enumerate(traffic.patterns):
            members = np.flatnonzero(kinds == kind)
            for actor, side in ((_C, pattern.clients), (_S, pattern.servers), (_M, pattern.middle)):
                if side:
                    self._seat(traffic, rng, actor, side, members)
            self.server_port[members] = np.array(pattern.ports)[rng.integers(0, len(pattern.ports), len(members))]
            if pattern.servers == "aws":
                # S3 and DynamoDB are reached through gateway endpoints; see the order of the services.
                service = (self.addresses[_S, members] - self.world.aws.first + 1) % 5
                self.way_out[members] = np.where((service == 0) | (service == 2), 7, 8)
        patterns = traffic.patterns
        self.protocol = np.array([p.protocol for p in patterns])[kinds]
        self.accept = np.array([p.accept for p in patterns])[kinds]
        self._use_ipv6(rng)
        icmp = self.protocol == ICMP
        self.client_port = np.where(icmp, 0, rng.integers(32768, 61000, count))
        self._set_flags(rng)
        self._set_sizes(rng, patterns, kinds)

    def _seat(self, traffic: Traffic, rng: np.random.Generator, actor: int, side: _Side, members: Ints) -> None:
        if isinstance(side, str):
            block: Block = getattr(self.world, side)
            self.addresses[actor, members] = block.first + draw(rng, traffic.zipf[side], len(members))
            return
        points, cumulative = traffic.sides[side]
        chosen = points[draw(rng, cumulative, len(members))]
        self.points[actor, members] = chosen
        self.addresses[actor, members] = chosen * self.world.hosts + rng.integers(0, self.world.hosts, len(members))

    def _use_ipv6(self, rng: np.random.Generator) -> None:
        # Nothing that is translated on the way speaks IPv6.
        chosen: Bools = (rng.random(self.addresses.shape[1]) < IPV6_SHARE) & (self.points[_M] < 0)
        self.addresses[:, chosen] += self.world.v6
        self.overhead = np.where(chosen, 20, 0)

    def _set_flags(self, rng: np.random.Generator) -> None:
        count = len(self.protocol)
        self.phase = draw(rng, _PHASES, count)
        tcp = self.protocol == TCP
        reset = np.where(rng.random(count) < 0.02, 4, 0)
        self.flags = np.where(tcp, np.where(self.accept, _REQUEST_FLAGS[self.phase], 2), 0)
        self.reply_flags = np.where(tcp, _REPLY_FLAGS[self.phase] | reset, 0)

    def _set_sizes(self, rng: np.random.Generator, patterns: list[_Pattern], kinds: Ints) -> None:
        count = len(kinds)

        def each(name: str) -> Floats:
            return np.array([getattr(p, name) for p in patterns], dtype=np.float64)[kinds]

        whole = self.accept & (self.protocol == TCP)
        # Sizes of flows are heavy-tailed; those of refused knocks and of single questions are not.
        spread = np.where(each("packets") > 1, 1.1, 0.3)
        least = np.where(whole, np.array([5, 2, 1, 1])[self.phase], 1)
        self.packets = np.maximum(each("packets") * np.exp(spread * rng.standard_normal(count)), least).astype(np.int64)
        answers = self.packets * each("answer") * rng.uniform(0.8, 1.2, count)
        self.reply_packets = np.maximum(answers, least).astype(np.int64)
        self.bytes = self._bytes(rng, self.packets, each("size"))
        self.reply_bytes = self._bytes(rng, self.reply_packets, each("answer_size"))

    def _bytes(self, rng: np.random.Generator, packets: Ints, size: Floats) -> Ints:
        each = np.clip(size * rng.normal(1, 0.15, len(packets)), 40, 1480) + self.overhead
        return (packets * each).astype(np.int64)
