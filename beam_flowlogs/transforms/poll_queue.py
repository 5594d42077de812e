"""Queues in; received messages out, endlessly: a timer that sets itself again, and says where the watermark is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_flowlogs.config import JobConfig
from beam_flowlogs.sqs_queue import QueueConfig, connect_queue
from beam_flowlogs.transforms.announce import Announcement, Announcer
from beam_flowlogs.visibility import keeper

_ROUND_S = 0.2
"""Seconds of receiving before what was received is let go to the next step, which gets it at the end of a bundle."""
_WAIT_S = 2
"""A poll holds up checkpoints while it waits. It ends as soon as there is a message, so waiting costs no freshness."""
_FULL_WAIT_S = 0.2


def shard_key(url: str, number: int) -> str:
    """Return the key under which a queue's shard is polled."""
    return f"{number} {url}"


class PollFn(beam.DoFn):
    """Polls shards, ``(shard_key(...), anything)``; the outputs are those of ``Announcer``.

    Each poll sets the timer for the next, for where the watermark is to be meanwhile: Beam holds it there. The timer
    goes off at once, since what comes in is at its end.

    Not a splittable DoFn: on Flink each of its polls leaves a state behind for ever (apache/beam issue 27648).
    """

    NEXT = TimerSpec("next", TimeDomain.WATERMARK)

    def __init__(self, config: JobConfig, queue: QueueConfig) -> None:
        self._config = config
        self._queue = queue
        self._announcer = Announcer(config, max_receives=queue.max_receives)
        self._in_flight = Metrics.distribution("flowlogs", "messages_in_flight")
        self._extended = Metrics.counter("flowlogs", "messages_extended")
        self._lost = Metrics.counter("flowlogs", "messages_lost_hold")
        self._waited = Metrics.distribution("flowlogs", "notification_wait_ms")

    def setup(self) -> None:
        """Tell the process which job it works for."""
        keeper().job = self._queue.job

    @beam.DoFn.unbounded_per_element()
    def process(self, shard: tuple[str, str], timer=beam.DoFn.TimerParam(NEXT)) -> None:  # type: ignore[no-untyped-def]  # noqa: ARG002, B008
        """Begin to poll a shard."""
        timer.set(self._watermark(time.time() * 1000))

    @on_timer(NEXT)
    def poll(  # type: ignore[no-untyped-def]
        self,
        shard=beam.DoFn.KeyParam,
        watermark=beam.DoFn.TimestampParam,
        timer=beam.DoFn.TimerParam(NEXT),  # noqa: B008
    ) -> Iterator[Announcement]:
        """Receive for a moment, and set the timer for the next poll."""
        url = shard.partition(" ")[2]
        queue = connect_queue(url, self._config.retry_for, self._queue.visibility_s)
        until = time.monotonic() + _ROUND_S
        oldest_ms = time.time() * 1000
        wait_s = _WAIT_S
        if self._full():
            time.sleep(_FULL_WAIT_S)
        while not self._full():
            with keeper().receiving() as may:
                messages = queue.receive(wait_s) if may else []
                announced = list(self._announcer.announce(queue, messages))
            now_ms = time.time() * 1000
            for message in messages:
                oldest_ms = min(oldest_ms, message.sent_ms)
                self._waited.update(max(0, int(now_ms - message.sent_ms)))
            yield from announced
            if not messages or time.monotonic() > until:
                break
            wait_s = 0
        self._tell()
        # Never back: what comes older than the watermark is late, and treated so.
        timer.set(max(watermark, self._watermark(oldest_ms)))

    def _watermark(self, oldest_ms: float) -> Timestamp:
        return Timestamp.of(oldest_ms / 1000 - self._queue.delivery_delay_s)

    def _full(self) -> bool:
        kept = keeper().kept()
        return kept.messages >= self._queue.max_in_flight or kept.bytes >= self._queue.max_in_flight_bytes

    def _tell(self) -> None:
        self._in_flight.update(keeper().kept().messages)
        extended, expired = keeper().news()
        self._extended.inc(extended)
        self._lost.inc(expired)
