"""One run: share the records out among objects, make and write object by object, and add up the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_flowlogs.generate.columns import to_table
from beam_flowlogs.generate.config import SLOT_SECONDS, FileType, GeneratorConfig, KeyLayout
from beam_flowlogs.generate.encode import parquet_file, text_member
from beam_flowlogs.generate.incidents import Story, spare_rows, tell
from beam_flowlogs.generate.rows import STATUSES, Ints, Rows, zipf
from beam_flowlogs.generate.sink import Sink
from beam_flowlogs.generate.traffic import Traffic
from beam_flowlogs.generate.truth import Tally, Truth
from beam_flowlogs.generate.world import Stream, World, build_world

_CHUNK = 1 << 17
"""Records that are held at a time; each chunk of a text file is a gzip member, of a Parquet file a row group."""


class _Place(NamedTuple):
    """Where an object belongs. Objects are numbered in this order: by slot, then stream, then part."""

    slot: int
    stream: int
    part: int


def generate(config: GeneratorConfig, sink: Sink, progress: Callable[[int], None] | None = None) -> Truth:
    """Make ``config.records`` records, hand each object (key, bytes) to ``sink``, and return the truth about them.

    ``progress`` is told how many records each finished object holds. Raises ValueError if the records are too few for
    the incidents.
    """
    world = build_world(config)
    stories = tell(config, world)
    run = _Run(config, world, stories)
    tally = Tally(config, world)
    objects: list[dict[str, Any]] = []
    for number, place in enumerate(run.places):
        if run.counts[number]:
            body, entry = _write(run, number, place, tally)
            sink(entry["key"], body)
            objects.append(entry)
            if progress:
                progress(entry["records"])
    return tally.truth(objects, [story.note for story in stories])


def _write(run: _Run, number: int, place: _Place, tally: Tally) -> tuple[bytes, dict[str, Any]]:
    """Make one object; return its bytes and its entry in the truth."""
    config, stream = run.config, run.world.streams[place.stream]
    slot_start = config.start + place.slot * SLOT_SECONDS
    unique = np.random.default_rng([config.seed, 4, number]).bytes(4).hex()
    statuses = np.zeros(len(STATUSES), dtype=np.int64)

    def tables() -> Iterator[pa.Table]:
        nonlocal statuses
        for rows in run.chunks(number):
            statuses += np.bincount(rows["status"], minlength=len(STATUSES))
            tally.add(rows, slot_start)
            yield to_table(rows, config.names, config.version, run.world)

    body = _encode(config, tables())
    return body, {
        "key": object_key(config, stream, slot_start, unique),
        "account_id": stream.account_id,
        "region": stream.region,
        "flow_log_id": stream.flow_log_id,
        "slot_start": slot_start,
        "records": int(statuses.sum()),
        "by_status": {name: int(count) for name, count in zip(STATUSES, statuses, strict=True)},
        "size": len(body),
    }


def object_key(config: GeneratorConfig, stream: Stream, slot_start: int, unique: str) -> str:
    """Return the key, with the configured prefix and layout, of one object of ``stream``; ``unique`` ends its name."""
    account, region = stream.account_id, stream.region
    moment = time.gmtime(slot_start)
    layout = config.keys
    if layout in (KeyLayout.HIVE, KeyLayout.HIVE_HOURLY):
        folder = f"aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/"
        folder += time.strftime("year=%Y/month=%m/day=%d/", moment)
        folder += time.strftime("hour=%H/", moment) if layout is KeyLayout.HIVE_HOURLY else ""
    else:
        folder = f"{account}/vpcflowlogs/{region}/" + time.strftime("%Y/%m/%d/", moment)
        folder += time.strftime("%H/", moment) if layout is KeyLayout.HOURLY else ""
    prefix = config.prefix.strip("/")
    slot = time.strftime("%Y%m%dT%H%MZ", moment)
    suffix = "log.parquet" if config.file is FileType.PARQUET else "log.gz"
    name = f"{account}_vpcflowlogs_{region}_{stream.flow_log_id}_{slot}_{unique}.{suffix}"
    return f"{prefix}/AWSLogs/{folder}{name}" if prefix else f"AWSLogs/{folder}{name}"


def _encode(config: GeneratorConfig, tables: Iterator[pa.Table]) -> bytes:
    if config.file is FileType.PARQUET:
        return parquet_file(tables, config.compression.value)
    header: tuple[str, ...] = config.names
    members = []
    for table in tables:
        members.append(text_member(table, header))
        header = ()
    return b"".join(members)


class _Run:
    """The plan of a run: its objects, how many records each holds, and which of them are set."""

    def __init__(self, config: GeneratorConfig, world: World, stories: list[Story]) -> None:
        self.config = config
        self.world = world
        self.mutes = {s.mutes: (s.note["start"] - config.start) // SLOT_SECONDS for s in stories if s.mutes >= 0}
        self.places = [
            _Place(slot, stream, part)
            for slot in range(config.slots)
            for stream in range(config.streams)
            for part in range(config.objects_per_slot)
        ]
        told = np.concatenate([story.rows for story in stories] + [spare_rows(config, world)])
        if len(told) > config.records:
            raise ValueError(
                f"records is {config.records}: the incidents alone leave {len(told)}; allow more or ask for fewer"
            )
        numbers = self._objects_of(told)
        order = np.argsort(numbers, kind="stable")
        self.told = told[order]
        self.bounds = np.searchsorted(numbers[order], np.arange(len(self.places) + 1))
        self.counts = np.diff(self.bounds) + _share(config.records - len(told), self._weights())
        self.traffic: dict[tuple[int, frozenset[int]], Traffic] = {}

    def _objects_of(self, rows: Rows) -> Ints:
        """Return the number of the object that each row belongs to; parts of a slot take turns."""
        config = self.config
        stream = np.searchsorted([s.end for s in self.world.streams], rows["point"], side="right")
        slot = (rows["end"] - config.start) // SLOT_SECONDS
        part = np.arange(len(rows)) % config.objects_per_slot
        numbers: Ints = (slot * config.streams + stream) * config.objects_per_slot + part
        return numbers

    def _weights(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        rng = np.random.default_rng([self.config.seed, 3])
        streams = zipf(self.config.streams, 0.5)
        return np.array([streams[place.stream] for place in self.places]) * rng.uniform(0.8, 1.2, len(self.places))

    def chunks(self, number: int) -> Iterator[Rows]:
        """Yield the rows of one object, a bounded number at a time; the same on every call."""
        place = self.places[number]
        told = self.told[self.bounds[number] : self.bounds[number + 1]]
        rng = np.random.default_rng([self.config.seed, 5, number])
        slot_start = self.config.start + place.slot * SLOT_SECONDS
        traffic = self._traffic(place)
        left = int(self.counts[number])
        while left:
            size = min(left, _CHUNK)
            first, told = told[:size], told[size:]
            rows = np.concatenate([first, traffic.rows(rng, slot_start, size - len(first))])
            # AWS writes what one interface logged in one capture window side by side, in no order.
            minute = (rows["end"] - slot_start) // 60
            group = minute * self.config.interfaces + rows["point"]
            yield rows[np.lexsort((rng.random(size), group))]
            left -= size

    def _traffic(self, place: _Place) -> Traffic:
        muted = frozenset(point for point, slot in self.mutes.items() if place.slot >= slot)
        key = (place.stream, muted)
        if key not in self.traffic:
            self.traffic[key] = Traffic(self.config, self.world, place.stream, muted)
        return self.traffic[key]


def _share(total: int, weights: np.ndarray[Any, np.dtype[np.float64]]) -> Ints:
    """Return whole numbers in proportion to ``weights`` that sum to ``total`` exactly."""
    edges = np.floor(np.cumsum(weights / weights.sum()) * total + 0.5).astype(np.int64)
    edges[-1] = total
    return np.diff(edges, prepend=0)
