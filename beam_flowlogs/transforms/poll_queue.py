"""Queues in; received messages out, endlessly: a splittable DoFn, with a watermark that trails AWS's delivery."""

from __future__ import annotations

import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration, Timestamp

from beam_flowlogs.config import JobConfig
from beam_flowlogs.sqs_queue import QueueConfig, connect_queue, keeper
from beam_flowlogs.transforms.announce import Announcement, Announcer

_ROUND_S = 0.2
"""Seconds of receiving before what was received is let go to the next step, which gets it at the end of a bundle."""
_BUSY_WAIT_S = 1
_IDLE_WAIT_S = 5
_IDLE_AFTER_S = 30
"""A poll holds up checkpoints while it waits, and every poll leaves something in Flink's state: poll slowly when idle.

A long poll answers as soon as there is a message, so waiting costs no freshness.
"""
_FULL_WAIT_S = 0.2


class _Tracker(RestrictionTracker):
    """Tracks the polling of a shard, which goes on until it is split off: 1 is polling, 0 is over."""

    def __init__(self, restriction: int) -> None:
        self._restriction = restriction

    def current_restriction(self) -> int:
        return self._restriction

    def try_claim(self, position: object) -> bool:  # noqa: ARG002 - there is only one
        return bool(self._restriction)

    def try_split(self, fraction_of_remainder: float) -> tuple[int, int] | None:  # noqa: ARG002 - all or nothing
        if not self._restriction:
            return None
        self._restriction = 0
        return 0, 1

    def check_done(self) -> None:
        if self._restriction:
            raise ValueError("a poll has ended without leaving the rest for later")

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=0, remaining=1)

    def is_bounded(self) -> bool:
        return False


class _Endless(RestrictionProvider):
    def initial_restriction(self, element: tuple[str, int]) -> int:  # noqa: ARG002 - all shards are alike
        return 1

    def create_tracker(self, restriction: int) -> _Tracker:
        return _Tracker(restriction)

    def restriction_coder(self) -> VarIntCoder:
        return VarIntCoder()

    def restriction_size(self, element: tuple[str, int], restriction: int) -> int:  # noqa: ARG002 - all shards are alike
        return restriction

    def truncate(self, element: tuple[str, int], restriction: int) -> None:
        """Leave nothing when the job is drained: what is still in the queue stays there."""


class PollFn(beam.DoFn):
    """Polls the shard of a queue, ``(queue's URL, number)``; the outputs are those of ``Announcer``."""

    def __init__(self, config: JobConfig, queue: QueueConfig) -> None:
        self._config = config
        self._queue = queue
        self._announcer = Announcer(config, max_receives=queue.max_receives)
        self._busy_at: dict[tuple[str, int], float] = {}
        self._told = (0, 0)
        self._in_flight = Metrics.distribution("flowlogs", "messages_in_flight")
        self._extended = Metrics.counter("flowlogs", "messages_extended")
        self._lost = Metrics.counter("flowlogs", "messages_lost_hold")
        self._waited = Metrics.distribution("flowlogs", "notification_wait_ms")

    @beam.DoFn.unbounded_per_element()
    def process(  # type: ignore[no-untyped-def]
        self,
        shard: tuple[str, int],
        tracker=beam.DoFn.RestrictionParam(_Endless()),  # noqa: B008
        watermark=beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ) -> Iterator[Announcement]:
        """Receive for a moment, and leave the rest for later."""
        if not tracker.try_claim(shard):
            return
        queue = connect_queue(shard[0], self._config.retry_for, self._queue.visibility_s)
        until = time.monotonic() + _ROUND_S
        wait_s = _BUSY_WAIT_S if time.monotonic() - self._busy_at.get(shard, 0) < _IDLE_AFTER_S else _IDLE_WAIT_S
        oldest_ms = time.time() * 1000
        full = False
        while True:
            full = self._full()
            messages = [] if full else queue.receive(wait_s)
            now_ms = time.time() * 1000
            for message in messages:
                oldest_ms = min(oldest_ms, message.sent_ms)
                self._waited.update(max(0, int(now_ms - message.sent_ms)))
            yield from self._announcer.announce(queue, messages)
            if not messages or time.monotonic() > until:
                break
            self._busy_at[shard] = time.monotonic()
            wait_s = 0
        self._tell()
        _advance(watermark, Timestamp.of(oldest_ms / 1000 - self._queue.delivery_delay_s))
        tracker.defer_remainder(Duration(seconds=_FULL_WAIT_S if full else 0))

    def _full(self) -> bool:
        kept = keeper().kept()
        return kept.messages >= self._queue.max_in_flight or kept.bytes >= self._queue.max_in_flight_bytes

    def _tell(self) -> None:
        kept = keeper().kept()
        self._in_flight.update(kept.messages)
        before, self._told = self._told, (kept.extended, kept.expired)
        self._extended.inc(kept.extended - before[0])
        self._lost.inc(kept.expired - before[1])


def _advance(watermark: ManualWatermarkEstimator, to: Timestamp) -> None:
    """Set the watermark, which may not go back: what comes older than it is late, and treated so."""
    now = watermark.current_watermark()
    if now is None or to > now:
        watermark.set_watermark(to)
