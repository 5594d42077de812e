"""Queues in; the objects that their messages announce, and what is to be counted of each message, out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam

from beam_flowlogs.config import JobConfig
from beam_flowlogs.sqs_queue import MAX_RECEIVES, QueueConfig, connect_queue
from beam_flowlogs.transforms.announce import MESSAGES, Announcement, Announcer
from beam_flowlogs.transforms.poll_queue import PollFn, shard_key
from beam_flowlogs.transforms.typed import typed

_logger = logging.getLogger(__name__)

_EMPTY_WAIT_S = 1
_EMPTY_RECEIVES = 2
"""A queue counts as empty after so many receives without a message: one alone may ask the wrong server of SQS."""

_SUSPECT_AFTER = 2
"""Receives after which a message may be what ends its workers, and with them whatever else they have under way."""


class Announced(NamedTuple):
    """Objects to index, and the messages that announced them, both keyed by the message's token.

    Both are ``PCollection[tuple[str, bytes]]``: encoded object refs, and encoded ``Progress``.
    """

    objects: beam.PCollection
    messages: beam.PCollection


class ReadNotifications(beam.PTransform):
    """Receive up to ``limit`` messages from a queue, until it is empty.

    Messages that were tried several times come with a few others only: what ends the worker is among them, perhaps.
    One that was handed out more than ``max_receives`` times is set aside (0: never).

    What cannot be understood, or names a bucket that is not allowed, goes to the dead letters and leaves the queue.
    """

    def __init__(self, queue_url: str, config: JobConfig, *, limit: int, max_receives: int = MAX_RECEIVES) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit is {limit}: receive at least one message")
        self._queue_url = queue_url
        self._config = config
        self._limit = limit
        self._max_receives = max_receives

    def expand(self, pbegin: beam.pvalue.PBegin) -> Announced:
        """Wire the transform."""
        found = (
            pbegin
            | "Queue" >> beam.Create([self._queue_url])
            | "Receive"
            >> beam.ParDo(_ReceiveFn(self._config, self._limit, self._max_receives)).with_outputs(
                MESSAGES, main="objects"
            )
        )
        return _announced(found)


class StreamNotifications(beam.PTransform):
    """Receive from queues for ever, by shards; otherwise as ``ReadNotifications``.

    The watermark trails the messages received (the clock, when there are none) by AWS's delivery delay.
    """

    def __init__(self, queue: QueueConfig, config: JobConfig) -> None:
        super().__init__()
        self._queue = queue
        self._config = config

    def expand(self, pbegin: beam.pvalue.PBegin) -> Announced:
        """Wire the transform."""
        shards = [(shard_key(url, number), url) for url in self._queue.urls for number in range(self._queue.shards)]
        found = (
            pbegin
            | "Shards" >> beam.Create(shards).with_output_types(tuple[str, str])
            | "Poll" >> beam.ParDo(PollFn(self._config, self._queue)).with_outputs(MESSAGES, main="objects")
        )
        return _announced(found)


def _announced(found: beam.pvalue.DoOutputsTuple) -> Announced:
    return Announced(
        typed(found.objects, "Objects", tuple[str, bytes]), typed(found[MESSAGES], "Messages", tuple[str, bytes])
    )


class _ReceiveFn(beam.DoFn):
    def __init__(self, config: JobConfig, limit: int, max_receives: int) -> None:
        self._config = config
        self._limit = limit
        self._announcer = Announcer(config, max_receives=max_receives)

    def process(self, queue_url: str) -> Iterator[Announcement]:
        queue = connect_queue(queue_url, self._config.retry_for)
        received = empty = 0
        told = time.monotonic()
        while received < self._limit and empty < _EMPTY_RECEIVES:
            messages = queue.receive(_EMPTY_WAIT_S)
            empty = 0 if messages else empty + 1
            received += len(messages)
            yield from self._announcer.announce(queue, messages)
            if any(message.receive_count > _SUSPECT_AFTER for message in messages):
                break
            if time.monotonic() - told > 5:
                told = time.monotonic()
                _logger.info("received %d messages from %s", received, queue_url)
        if received:
            _logger.info("received %d messages from %s", received, queue_url)
