"""One stage of the way on real files in; the CPU-seconds of each round and the peak memory of its process out.

A stage is measured in a fresh process, by the CPU time of all its threads. Every round inflates the same files
alongside, because a shared machine's speed drifts from round to round: ratios hold where seconds do not.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from beam_flowlogs import kernel
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer
from beam_flowlogs.index_object import index_object
from beam_flowlogs.inflate import Limits, inflate
from beam_flowlogs.object_key import parse_key
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.record_batch import decode
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.rows import Rows
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.s3_object import ObjectRef
from beam_flowlogs.spare_memory import keep_freed_memory
from benchmarks.peers import FLOWLOGS_READER, flowlogs_reader

_BUCKET = "flow-logs"
_CHUNK = 1 << 20
_SENT_AT_ONCE = 64 << 20
"""Bytes of ready items that are gathered before they are sent, so that only the sending is timed."""


class Objects(NamedTuple):
    """What a stage works on: files at ``folder``/key, which ``url`` serves as S3 and takes bulk requests."""

    folder: Path
    keys: list[str]
    url: str


class Cost(NamedTuple):
    """What a stage cost. ``cpu`` and ``inflate_cpu`` are CPU-seconds by round, ``peak_rss`` is in bytes."""

    records: int
    cpu: list[float]
    inflate_cpu: list[float]
    peak_rss: int


def measure(stage: str, objects: Objects, rounds: int, *, pure: bool = False) -> Cost:
    """Run a stage in a fresh process: once to warm up, then ``rounds`` times; ``pure``: without the compiled loops."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_rounds, stage, objects, rounds, pure).result()


def _rounds(stage: str, objects: Objects, rounds: int, pure: bool) -> Cost:
    if pure:
        kernel.compiled = None
    os.environ |= {
        "AWS_ENDPOINT_URL": objects.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    run = STAGES[stage]
    keep_freed_memory()
    records, _ = run(objects)
    inflated, spent = [], []
    for _ in range(rounds):
        inflated.append(_inflate(objects)[1])
        spent.append(run(objects)[1])
    return Cost(records, spent, inflated, _peak_rss())


def _peak_rss() -> int:
    try:  # getrusage would also count the process that this one was forked from
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class _Clock:
    """Adds up the CPU time of this process, all threads, between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self.total = 0.0

    def __enter__(self) -> None:
        self.total -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.total += time.process_time()


def _inflate(objects: Objects) -> tuple[int, float]:
    clock = _Clock()
    with clock:
        for key in objects.keys:
            for _ in inflate(_stored(objects, key), Limits()):
                pass
    return 0, clock.total


def _decode(objects: Objects) -> tuple[int, float]:
    clock, records = _Clock(), 0
    with clock:
        for key in objects.keys:
            for rows in decode(_stored(objects, key), Limits()):
                records += rows.batch.num_rows
    return records, clock.total


def _documents(objects: Objects) -> tuple[int, float]:
    clock, records = _Clock(), 0
    for origin, rows in _decoded(objects):
        with clock:
            records += len(bulk_items(rows, origin))
    return records, clock.total


def _parts(objects: Objects) -> tuple[int, float]:
    clock, records = _Clock(), 0
    parts: dict[str, PartsOfObject] = {}
    for origin, rows in _decoded(objects):
        bulk_items(rows, origin)  # as in a job: what the documents looked up of the values serves both
        with clock:
            parts.setdefault(origin.key, PartsOfObject(origin, [60])).add(rows)
            records += rows.batch.num_rows
    with clock:
        for part in parts.values():
            part.finish()
    return records, clock.total


def _send(objects: Objects) -> tuple[int, float]:
    clock, records = _Clock(), 0
    writer = bulk_writer(ElasticsearchConfig(urls=(objects.url,)), BulkConfig())
    for items in _gathered(objects):
        with clock, writer.stream() as stream:
            for array in items:
                stream.submit(array)
            records += stream.flush().written
    return records, clock.total


def _whole(objects: Objects) -> tuple[int, float]:
    clock, records = _Clock(), 0
    with tempfile.TemporaryDirectory() as letters:
        elasticsearch = ElasticsearchConfig(urls=(objects.url,))
        config = JobConfig(elasticsearch, letters, (_BUCKET,))
        writer = bulk_writer(elasticsearch, config.bulk)
        with clock:
            for key in objects.keys:
                done = index_object(ObjectRef(_BUCKET, key), config, s3_client(), writer, DeadLetters(letters))
                records += done.written
    return records, clock.total


def _flowlogs_reader(objects: Objects) -> tuple[int, float]:
    clock = _Clock()
    with clock:
        records = flowlogs_reader(objects.folder / key for key in objects.keys)
    return records, clock.total


STAGES: dict[str, Callable[[Objects], tuple[int, float]]] = {
    "inflate": lambda objects: (_decode(objects)[0], _inflate(objects)[1]),
    "decode": _decode,
    "documents": _documents,
    "roll up": _parts,
    "send": _send,
    "S3 to sent bulk": _whole,
    FLOWLOGS_READER: _flowlogs_reader,
}
"""Each stage runs once over objects and returns how many records it saw and the CPU-seconds it took."""


def _stored(objects: Objects, key: str) -> Iterator[bytes]:
    with (objects.folder / key).open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _decoded(objects: Objects) -> Iterator[tuple[Origin, Rows]]:
    for key in objects.keys:
        parts = parse_key(key)
        origin = Origin(_BUCKET, key, "A" * 16, parts.account_id, parts.region)
        for rows in decode(_stored(objects, key), Limits()):
            yield origin, rows


def _gathered(objects: Objects) -> Iterator[list[pa.BinaryArray]]:
    gathered: list[pa.BinaryArray] = []
    size = 0
    for origin, rows in _decoded(objects):
        gathered.append(bulk_items(rows, origin))
        size += gathered[-1].nbytes
        if size >= _SENT_AT_ONCE:
            yield gathered
            gathered, size = [], 0
    yield gathered
