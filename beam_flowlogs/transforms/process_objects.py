"""Object refs in; raw documents durable in Elasticsearch, parts of roll-ups and progress out.

Rows never leave this step. While the last documents of an object are on their way, the next objects are read.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer
from beam_flowlogs.index_object import IndexedObject, SentObject, send_object
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.spare_memory import keep_freed_memory
from beam_flowlogs.transforms.announce import decode_ref
from beam_flowlogs.transforms.group_parts import keyed_parts
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress
from beam_flowlogs.transforms.typed import typed

_logger = logging.getLogger(__name__)


class Processed(NamedTuple):
    """Parts by the shard that they belong to, stamped with its window's start; and progress by message token.

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


class _Sent(NamedTuple):
    """An object whose documents are on their way, with its element's token and timestamp, and when it was begun."""

    token: str
    timestamp: Timestamp
    began: float
    object: SentObject


def _placed(value: tuple[str, bytes], timestamp: Timestamp) -> WindowedValue:
    return WindowedValue(value, timestamp, [GlobalWindow()])


class _IndexFn(beam.DoFn):
    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._counters = {
            name: Metrics.counter("flowlogs", name)
            for name in ("objects", "objects_rejected", "documents", "duplicates", "rejects", "retries", "bulk_bytes")
        }
        self._latency = Metrics.distribution("flowlogs", "bulk_ms")
        self._lag = Metrics.distribution("flowlogs", "event_lag_ms")
        self._sent: deque[_Sent] = deque()

    def setup(self) -> None:
        """Tell the worker's process how to treat memory."""
        keep_freed_memory()

    def start_bundle(self) -> None:
        self.teardown()  # a bundle that failed leaves its objects behind

    def process(
        self, element: tuple[str, bytes], timestamp: Timestamp = beam.DoFn.TimestampParam
    ) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        token, data = element
        config = self._config
        with self._cancelled_on_error():
            # As many objects as bodies: small ones, of a body each, would else wait for each other's answer.
            while len(self._sent) >= config.bulk.concurrency:
                yield from self._finish(self._sent.popleft())
            began = time.monotonic()
            sent = send_object(
                decode_ref(data),
                config,
                s3_client(),
                bulk_writer(config.elasticsearch, config.bulk),
                counted_dead_letters(config),
            )
            self._sent.append(_Sent(token, timestamp, began, sent))

    def finish_bundle(self) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        with self._cancelled_on_error():
            while self._sent:
                yield from self._finish(self._sent.popleft())

    def teardown(self) -> None:
        while self._sent:
            self._sent.popleft().object.cancel()

    @contextmanager
    def _cancelled_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # an interrupt too: what waits for ever would keep the process from ending
            self.teardown()
            raise

    def _finish(self, sent: _Sent) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        try:
            done = sent.object.finish()
        finally:
            sent.object.cancel()
        self._count(done, time.monotonic() - sent.began)
        for shard, value in keyed_parts(sent.token, done.parts):
            yield _placed((shard.encode(), value), Timestamp(shard.start))
        if sent.token != NO_MESSAGE:
            progress = Progress(indexed=1, parts=len(done.parts))
            yield beam.pvalue.TaggedOutput("progress", _placed((sent.token, progress.encode()), sent.timestamp))

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
        if done.parts:
            newest_ms = max(part.last_seen for _, part in done.parts)
            self._lag.update(max(0, int(time.time() * 1000 - newest_ms)))
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
