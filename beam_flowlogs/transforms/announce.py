"""Received messages in; the objects that they announce, and what is to be counted of each message, out."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import TypeAlias

import orjson
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_flowlogs.config import JobConfig
from beam_flowlogs.notification import NotificationRejected, parse_notification
from beam_flowlogs.reject import DeadLetters, Reject, message_file, object_file
from beam_flowlogs.s3_object import ObjectRef
from beam_flowlogs.sqs_queue import MAX_RECEIVES, Message, SqsQueue
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import Progress
from beam_flowlogs.visibility import keeper

_logger = logging.getLogger(__name__)

MESSAGES = "messages"
"""The output of ``(token, encoded Progress)``; the main one is of ``(token, encoded ref)``."""

Announcement: TypeAlias = "tuple[str, bytes] | TaggedOutput"


def encode_ref(ref: ObjectRef) -> bytes:
    """Return an object ref as the bytes that cross a shuffle."""
    return orjson.dumps(tuple(ref))


def decode_ref(data: bytes) -> ObjectRef:
    """Return the object ref that ``encode_ref`` made the bytes of."""
    return ObjectRef(*orjson.loads(data))


class Announcer:
    """Reads messages and holds them. What cannot be used goes to the dead letters and leaves the queue.

    So does what announces nothing but the job's own dead letters.

    A message handed out more than ``max_receives`` times is not tried again: its objects are set aside (0: never).
    """

    def __init__(self, config: JobConfig, *, max_receives: int = MAX_RECEIVES) -> None:
        self._config = config
        self._max_receives = max_receives
        self._received = Metrics.counter("flowlogs", "messages_received")
        self._redelivered = Metrics.counter("flowlogs", "messages_redelivered")
        self._rejected = Metrics.counter("flowlogs", "messages_rejected")
        self._deleted = Metrics.counter("flowlogs", "messages_deleted")
        self._given_up = Metrics.counter("flowlogs", "messages_given_up")
        self._skipped = Metrics.counter("flowlogs", "dead_letters_skipped")

    def announce(self, queue: SqsQueue, messages: Iterable[Message]) -> Iterator[Announcement]:
        """Yield the objects and the beginnings of the progress of messages just received."""
        messages = list(messages)
        announced = [(message, self._refs(message)) for message in messages]
        keeper().hold(
            queue, {message.receipt: sum(max(ref.size, 0) for ref in refs) for message, refs in announced if refs}
        )
        self._received.inc(len(messages))
        self._redelivered.inc(sum(message.receive_count > 1 for message in messages))
        finished = [message.receipt for message, refs in announced if not refs]
        if finished:
            self._deleted.inc(queue.delete(finished))
        for message, refs in announced:
            if refs:
                token = uuid.uuid4().hex  # of this receipt: another delivery of the message is counted on its own
                progress = Progress(queue.url, message.receipt, announced=len(refs), sent_ms=message.sent_ms)
                yield TaggedOutput(MESSAGES, (token, progress.encode()))
                for ref in refs:
                    yield token, encode_ref(ref)

    def _refs(self, message: Message) -> list[ObjectRef]:
        """Return the objects to index; what is wrong with the message is in the dead letters then."""
        body = message.body
        try:
            refs = parse_notification(body)
        except NotificationRejected as error:
            self._set_aside(message_file(body), Reject("notification", error.reason, error.detail, data=_utf8(body)))
            return []
        own = set(filter(DeadLetters(self._config.dead_letters).holds, refs))
        self._skipped.inc(len(own))
        refs = [ref for ref in refs if ref not in own]
        forbidden = [ref for ref in refs if not self._config.allows(ref.bucket)]
        if forbidden:
            # One message can name thousands of objects: its text is kept once.
            texts = chain([_utf8(body)], repeat(b""))
            self._set_aside(message_file(body), *map(self._forbidden, forbidden, texts))
            refs = [ref for ref in refs if self._config.allows(ref.bucket)]
        if self._max_receives and message.receive_count > self._max_receives:
            for ref in refs:
                self._set_aside(object_file("object", ref), self._tried_too_often(ref, message.receive_count))
            self._given_up.inc()
            return []
        return refs

    def _set_aside(self, file: str, *rejects: Reject) -> None:
        self._rejected.inc()
        _logger.warning("a message was set aside: %s", rejects[0].detail, extra={"set_aside": len(rejects)})
        counted_dead_letters(self._config).write(file, rejects)

    def _forbidden(self, ref: ObjectRef, data: bytes) -> Reject:
        detail = (
            f"{ref.url} is in a bucket that is not allowed ({', '.join(self._config.buckets)} are): "
            f"if it should be read, run with --bucket {ref.bucket} and replay"
        )
        return Reject("notification", "bucket-not-allowed", detail, *ref[:4], data=data)

    def _tried_too_often(self, ref: ObjectRef, times: int) -> Reject:
        detail = (
            f"{ref.url} was received {times} times and never indexed to its end: look into the workers' logs for what "
            "ended them, then replay"
        )
        return Reject("object", "too-many-receives", detail, *ref[:4])


def _utf8(body: str) -> bytes:
    return body.encode(errors="surrogatepass")
