"""Object refs in; raw documents durable in Elasticsearch, parts of roll-ups and progress out.

One worker, one object at a time: rows never leave this step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer
from beam_flowlogs.index_object import IndexedObject, index_object
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.transforms.announce import decode_ref
from beam_flowlogs.transforms.group_parts import encode_keyed_part
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress
from beam_flowlogs.transforms.typed import typed

_logger = logging.getLogger(__name__)


class Processed(NamedTuple):
    """Parts by the roll-up that they belong to, stamped with its window's start; and progress by message token.

    Both are ``PCollection[tuple[str, bytes]]``. A part comes out once its object's raw documents are durable.
    """

    parts: beam.PCollection
    progress: beam.PCollection


class ProcessObjects(beam.PTransform):
    """Index objects, given as ``(message token, encoded ref)``; the refs are spread over the workers first."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, objects: beam.PCollection) -> Processed:
        """Wire the transform."""
        found = (
            objects
            | "Spread" >> beam.Reshuffle().with_output_types(tuple[str, bytes])
            | "Index" >> beam.ParDo(_IndexFn(self._config)).with_outputs("progress", main="parts")
        )
        return Processed(
            typed(found.parts, "Parts", tuple[str, bytes]), typed(found.progress, "Progress", tuple[str, bytes])
        )


class _IndexFn(beam.DoFn):
    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._counters = {
            name: Metrics.counter("flowlogs", name)
            for name in ("objects", "objects_rejected", "documents", "duplicates", "rejects", "retries", "bulk_bytes")
        }
        self._latency = Metrics.distribution("flowlogs", "bulk_ms")

    def process(self, element: tuple[str, bytes]) -> Iterator[TimestampedValue | beam.pvalue.TaggedOutput]:
        token, data = element
        config = self._config
        began = time.monotonic()
        done = index_object(
            decode_ref(data),
            config,
            s3_client(),
            bulk_writer(config.elasticsearch, config.bulk),
            counted_dead_letters(config),
        )
        self._count(done, time.monotonic() - began)
        for key, part in done.parts:
            yield TimestampedValue(encode_keyed_part(key, token, part), key.start)
        if token != NO_MESSAGE:
            progress = Progress(indexed=1, parts=len(done.parts))
            yield beam.pvalue.TaggedOutput("progress", (token, progress.encode()))

    def _count(self, done: IndexedObject, seconds: float) -> None:
        for name, count in (
            ("objects", 1),
            ("objects_rejected", bool(done.reason)),
            ("documents", done.written),
            ("duplicates", done.duplicates),
            ("rejects", done.rejected),
            ("retries", done.retries),
            ("bulk_bytes", done.sent_bytes),
        ):
            self._counters[name].inc(int(count))
        for latency in done.latencies:
            self._latency.update(latency)
        level = logging.WARNING if done.reason or done.rejected else logging.INFO
        _logger.log(
            level,
            "%s: %d documents, %d there already, %d rejected%s in %.1f s",
            done.ref.url,
            done.written,
            done.duplicates,
            done.rejected,
            f", ended early ({done.reason})" if done.reason else "",
            seconds,
            extra={"documents": done.written + done.duplicates, "set_aside": done.rejected + bool(done.reason)},
        )
