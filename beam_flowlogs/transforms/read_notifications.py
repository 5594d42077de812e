"""A queue's messages in; the objects that they announce and what is to be counted of each message out."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import orjson
from apache_beam.metrics import Metrics

from beam_flowlogs.config import JobConfig
from beam_flowlogs.notification import NotificationRejected, parse_notification
from beam_flowlogs.reject import DeadLetters, Reject, message_file
from beam_flowlogs.s3_object import ObjectRef
from beam_flowlogs.sqs_queue import Message, SqsQueue, connect_queue, keeper
from beam_flowlogs.transforms.progress import Progress
from beam_flowlogs.transforms.typed import typed

_logger = logging.getLogger(__name__)

_EMPTY_WAIT_S = 1
_EMPTY_RECEIVES = 2
"""A queue counts as empty after so many receives without a message: one alone may ask the wrong server of SQS."""


class Announced(NamedTuple):
    """Objects to index, and the messages that announced them, both keyed by the message's token.

    Both are ``PCollection[tuple[str, bytes]]``: encoded object refs, and encoded ``Progress``.
    """

    objects: beam.PCollection
    messages: beam.PCollection


class ReadNotifications(beam.PTransform):
    """Receive up to ``limit`` messages from a queue, until it is empty.

    What cannot be understood, or names a bucket that is not allowed, goes to the dead letters and leaves the queue.
    """

    def __init__(self, queue_url: str, config: JobConfig, *, limit: int) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit is {limit}: receive at least one message")
        self._queue_url = queue_url
        self._config = config
        self._limit = limit

    def expand(self, pbegin: beam.pvalue.PBegin) -> Announced:
        """Wire the transform."""
        found = (
            pbegin
            | "Queue" >> beam.Create([self._queue_url])
            | "Receive" >> beam.ParDo(_ReceiveFn(self._config, self._limit)).with_outputs("messages", main="objects")
        )
        return Announced(
            typed(found.objects, "Objects", tuple[str, bytes]), typed(found.messages, "Messages", tuple[str, bytes])
        )


def encode_ref(ref: ObjectRef) -> bytes:
    """Return an object ref as the bytes that cross a shuffle."""
    return orjson.dumps(tuple(ref))


def decode_ref(data: bytes) -> ObjectRef:
    """Return the object ref that ``encode_ref`` made the bytes of."""
    return ObjectRef(*orjson.loads(data))


class _ReceiveFn(beam.DoFn):
    def __init__(self, config: JobConfig, limit: int) -> None:
        self._config = config
        self._limit = limit
        self._received = Metrics.counter("flowlogs", "messages_received")
        self._redelivered = Metrics.counter("flowlogs", "messages_redelivered")
        self._rejected = Metrics.counter("flowlogs", "messages_rejected")

    def process(self, queue_url: str) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        queue = connect_queue(queue_url, self._config.retry_for)
        received = empty = 0
        told = time.monotonic()
        while received < self._limit and empty < _EMPTY_RECEIVES:
            messages = queue.receive(_EMPTY_WAIT_S)
            empty = 0 if messages else empty + 1
            received += len(messages)
            keeper().hold(queue, [message.receipt for message in messages])
            self._received.inc(len(messages))
            self._redelivered.inc(sum(message.receive_count > 1 for message in messages))
            for message in messages:
                yield from self._announce(queue, message)
            if time.monotonic() - told > 5:
                told = time.monotonic()
                _logger.info("received %d messages from %s", received, queue_url)
        if received:
            _logger.info("received %d messages from %s", received, queue_url)

    def _announce(self, queue: SqsQueue, message: Message) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        refs = self._refs(message.body)
        if not refs:
            queue.delete([message.receipt])
            keeper().let_go([message.receipt])
            return
        token = uuid.uuid4().hex  # of this receipt: another delivery of the message is counted on its own
        progress = Progress(queue.url, message.receipt, announced=len(refs))
        yield beam.pvalue.TaggedOutput("messages", (token, progress.encode()))
        for ref in refs:
            yield token, encode_ref(ref)

    def _refs(self, body: str) -> list[ObjectRef]:
        """Return the objects to index; what is wrong with the message is in the dead letters then."""
        try:
            refs = parse_notification(body)
        except NotificationRejected as error:
            rejects = [Reject("notification", error.reason, error.detail, data=_utf8(body))]
            refs = []
        else:
            rejects = [self._forbidden(ref, body) for ref in refs if not self._config.allows(ref.bucket)]
            refs = [ref for ref in refs if self._config.allows(ref.bucket)]
        if rejects:
            self._rejected.inc()
            _logger.warning("a message was set aside: %s", rejects[0].detail)
            DeadLetters(self._config.dead_letters).write(message_file(body), rejects)
        return refs

    def _forbidden(self, ref: ObjectRef, body: str) -> Reject:
        detail = (
            f"{ref.url} is in a bucket that is not allowed ({', '.join(self._config.buckets)} are): "
            f"if it should be read, run with --bucket {ref.bucket} and replay"
        )
        return Reject(
            "notification",
            "bucket-not-allowed",
            detail,
            ref.bucket,
            ref.key,
            ref.version_id,
            ref.etag,
            data=_utf8(body),
        )


def _utf8(body: str) -> bytes:
    return body.encode(errors="surrogatepass")
