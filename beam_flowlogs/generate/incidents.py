"""Incidents: things worth finding, each as the records that it leaves and a note of what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beam_flowlogs.generate.config import SLOT_SECONDS, GeneratorConfig, Incident
from beam_flowlogs.generate.rows import NODATA, SKIPDATA, Ints, Rows, new_rows
from beam_flowlogs.generate.traffic import TCP
from beam_flowlogs.generate.world import SPARE, World

_WELL_KNOWN = np.array([22, 23, 25, 53, 80, 110, 135, 139, 143, 443, 445, 1433, 3306, 3389, 5432, 5900, 6379, 8080])


@dataclass(frozen=True)
class Story:
    """One incident: ``note`` is its entry in truth.json, ``rows`` are its records, ``mutes`` is the point that has no
    everyday traffic from ``note["start"]`` on (-1: none)."""  # fmt: skip

    note: dict[str, Any]
    rows: Rows
    mutes: int = -1


class _Scene(NamedTuple):
    """What an incident is made with."""

    config: GeneratorConfig
    world: World
    rng: np.random.Generator
    point: int
    stream: int
    others: list[int]  # further points of the stream that have traffic

    def at(self, fraction: float) -> int:
        """Return the time after this fraction of the run, in Unix seconds."""
        return self.config.start + int(fraction * self.config.slots * SLOT_SECONDS)

    @property
    def end(self) -> int:
        return self.config.start + self.config.slots * SLOT_SECONDS

    @property
    def spell(self) -> int:
        """Seconds that a passing incident lasts."""
        return max(30, min(120, self.config.slots * SLOT_SECONDS // 5))

    def some(self, per_record: float, least: int, most: int) -> int:
        """Return a number of records that suits the run's size."""
        return int(np.clip(self.config.records * per_record, least, most))

    def moments(self, start: int, end: int, count: int) -> Ints:
        """Return ``count`` times from ``start`` up to, not including, ``end``, in order."""
        return np.sort(self.rng.integers(start, end, count))

    def own(self, point: int) -> int:
        """Return the index of the first address of ``point``."""
        return point * self.world.hosts

    def stranger(self, number: int) -> int:
        """Return the index of a foreign address that only incidents use."""
        return self.world.strangers.first + number


def tell(config: GeneratorConfig, world: World) -> list[Story]:
    """Return the incidents that ``config`` asks for, each at a point of its own as far as there are enough."""
    rng = np.random.default_rng([config.seed, 2])
    taken: set[int] = set()
    stories: list[Story] = []
    # The silent one first: nobody else may make it talk.
    for incident in sorted(config.incidents, key=lambda i: i is not Incident.SILENT_INTERFACE):
        roles, play = _PLAYS[incident]
        stream = int(rng.integers(len(world.streams)))
        found = world.streams[stream]
        silent = {story.mutes for story in stories}
        talking = [p for p in range(found.first, found.end) if world.roles[p] != SPARE and p not in silent]
        fitting = [p for p in talking if world.roles[p] in roles and p not in taken]
        point = int(rng.choice(fitting or [p for p in talking if p not in taken] or talking))
        taken.add(point)
        scene = _Scene(config, world, rng, point, stream, [p for p in talking if p != point])
        stories.append(_checked(scene, incident, play(scene)))
    return stories


def _checked(scene: _Scene, incident: Incident, story: Story) -> Story:
    """Put the facts that every incident has before its own."""
    world, found = scene.world, scene.world.streams[scene.stream]
    attributes = world.attributes
    names = ("interface_id", "resource_id", "tgw_attachment_id")
    interface = next(value for name in names if name in attributes and (value := attributes[name][scene.point].as_py()))
    note = {
        "kind": incident.value,
        "interface": interface,
        "account_id": found.account_id,
        "region": found.region,
        "source": None,
        "destination": None,
        "port": None,
        "records": len(story.rows),
    }
    return Story(note | story.note, story.rows, story.mutes)


def _port_scan(scene: _Scene) -> Story:
    count = scene.some(0.01, 40, 5000)
    start = scene.at(0.35)
    end = start + scene.spell
    source, target = scene.stranger(0), scene.own(scene.point)
    ports = np.concatenate([_WELL_KNOWN, 10_000 + scene.rng.permutation(50_000)[: count - len(_WELL_KNOWN)]])
    times = scene.moments(start, end, count)
    rows = new_rows(
        count,
        point=scene.point,
        src=source,
        pkt_src=source,
        dst=target,
        pkt_dst=target,
        srcport=scene.rng.integers(40_000, 41_000, count),
        dstport=scene.rng.permutation(ports),
        protocol=TCP,
        packets=1,
        bytes=44,
        start=times,
        end=times,
        tcp_flags=2,
    )
    rows["accept"] = np.isin(rows["dstport"], [80, 443])
    return Story({**_between(scene, source, target, None), "start": start, "end": end}, rows)


def _peer_stops(scene: _Scene) -> Story:
    stops = scene.at(0.5)
    client, peer, port = scene.own(scene.point), scene.stranger(1), 5432
    count = scene.some(0.0025, 20, 2000)
    # A transit gateway sees the request come in (ingress) and the reply go out.
    out = not scene.config.tgw
    path = 3 if out else 0
    talk = {"point": scene.point, "protocol": TCP, "accept": True}
    there = {"src": client, "pkt_src": client, "dst": peer, "pkt_dst": peer, "dstport": port, "egress": out}
    back = {"src": peer, "pkt_src": peer, "dst": client, "pkt_dst": client, "srcport": port, "egress": not out}
    times = scene.moments(scene.config.start, stops, count)
    ports = scene.rng.integers(32768, 61000, count)
    packets = scene.rng.integers(6, 40, count)
    asked = new_rows(
        count, **talk, **there, path=path, srcport=ports, packets=packets, bytes=packets * 180,
        start=times, end=times, tcp_flags=3,
    )  # fmt: skip
    answered = new_rows(
        count, **talk, **back, dstport=ports, packets=packets, bytes=packets * 420, start=times, end=times,
        tcp_flags=19,
    )  # fmt: skip
    # A connection attempt that nobody answers is sent again after 1 and 3 seconds.
    tries = scene.rng.integers(1, 4, count)
    times = scene.moments(stops + 3, scene.end, count)
    unanswered = new_rows(
        count, **talk, **there, path=path, srcport=scene.rng.integers(32768, 61000, count), packets=tries,
        bytes=tries * 60, start=times - (2 ** (tries - 1) - 1), end=times, tcp_flags=2,
    )  # fmt: skip
    rows = np.concatenate([asked, answered, unanswered])
    return Story({**_between(scene, client, peer, port), "start": stops, "end": scene.end}, rows)


def _reject_burst(scene: _Scene) -> Story:
    count = scene.some(0.01, 40, 5000)
    start = scene.at(0.6)
    end = start + scene.spell
    target, port = scene.own(scene.point), 5432
    sources = np.array([scene.own(p) for p in scene.others[:20]] or [scene.stranger(2)])
    source = sources[scene.rng.integers(0, len(sources), count)]
    times = scene.moments(start, end, count)
    packets = scene.rng.integers(1, 4, count)
    rows = new_rows(
        count, point=scene.point, src=source, pkt_src=source, dst=target, pkt_dst=target,
        srcport=scene.rng.integers(32768, 61000, count), dstport=port, protocol=TCP, packets=packets,
        bytes=packets * 60, start=times, end=times, tcp_flags=2,
    )  # fmt: skip
    note = {"destination": scene.world.text(target), "sources": [scene.world.text(int(s)) for s in sources]}
    return Story({**note, "port": port, "start": start, "end": end}, rows)


def _skipdata(scene: _Scene) -> Story:
    length = scene.config.aggregation
    ends = np.arange(scene.at(0.5) + 1, scene.end, length)[:3]
    rows = _empty_rows(scene.point, ends, length, SKIPDATA)
    return Story({"start": int(rows["start"][0]), "end": int(rows["end"][-1])}, rows)


def _silent_interface(scene: _Scene) -> Story:
    # From a slot's start on, so that the traffic of a slot is either with it or without it.
    start = scene.config.start + max(1, scene.config.slots // 2) * SLOT_SECONDS
    length = scene.config.aggregation
    rows = _empty_rows(scene.point, np.arange(start + length - 1, scene.end, length), length, NODATA)
    return Story({"start": start, "end": scene.end}, rows, mutes=scene.point)


def _bytes_spike(scene: _Scene) -> Story:
    count = scene.some(0.001, 10, 500)
    start = scene.at(0.7)
    end = start + scene.spell
    source, sink, port = scene.own(scene.point), scene.stranger(3), 443
    times = scene.moments(start, end, count)
    packets = scene.rng.integers(200_000, 700_000, count)
    rows = new_rows(
        count, point=scene.point, src=source, pkt_src=source, dst=sink, pkt_dst=sink,
        srcport=scene.rng.integers(32768, 61000, count), dstport=port, protocol=TCP, packets=packets,
        bytes=packets * 1400, start=times - np.minimum(20, times - start), end=times, accept=True, tcp_flags=0,
        egress=not scene.config.tgw, path=0 if scene.config.tgw else 8,
    )  # fmt: skip
    return Story({**_between(scene, source, sink, port), "start": start, "end": end}, rows)


_PLAYS: dict[Incident, tuple[tuple[str, ...], Callable[[_Scene], Story]]] = {
    Incident.PORT_SCAN: (("web", "balancer", "spoke"), _port_scan),
    Incident.PEER_STOPS: (("app", "ecs", "spoke"), _peer_stops),
    Incident.REJECT_BURST: (("db", "shared"), _reject_burst),
    Incident.SKIPDATA: (("web", "balancer", "nat", "shared"), _skipdata),
    # Never the first point of a stream, so that the others always have somebody to talk to.
    Incident.SILENT_INTERFACE: (("app", "db", "ecs", "shared"), _silent_interface),
    Incident.BYTES_SPIKE: (("db", "app", "spoke"), _bytes_spike),
}


def _between(scene: _Scene, source: int, destination: int, port: int | None) -> dict[str, Any]:
    return {"source": scene.world.text(source), "destination": scene.world.text(destination), "port": port}


def _empty_rows(point: int, ends: Ints, length: int, status: int) -> Rows:
    """Return a line without traffic for each capture window of ``length`` seconds that ends at one of ``ends``."""
    return new_rows(len(ends), point=point, start=ends - length + 1, end=ends, status=status)


def spare_rows(config: GeneratorConfig, world: World) -> Rows:
    """Return the NODATA lines of the points that never see traffic; at most a twentieth of the run's records."""
    if not config.logs("log-status"):
        return new_rows(0)
    spares = [point for point, role in enumerate(world.roles) if role == SPARE]
    length = config.aggregation
    end = config.start + config.slots * SLOT_SECONDS
    lines = [
        _empty_rows(point, np.arange(config.start + world.phase[point], end, length), length, NODATA)
        for point in spares
    ]
    rows = np.concatenate([new_rows(0), *lines])
    most = min(config.records // 20, 200_000)
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)] if most else rows[:0]
