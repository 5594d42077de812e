"""Progress of messages in; messages deleted from their queue once everything made from them is durable."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_flowlogs.config import JobConfig
from beam_flowlogs.sqs_queue import connect_queue
from beam_flowlogs.transforms.progress import Progress
from beam_flowlogs.visibility import keeper


class Acknowledge(beam.PTransform):
    """Add up the progress of each message and delete it when it is done.

    In: collections of ``(message token, encoded Progress)`` in the global window. Neither a checkpoint nor a bundle's
    end is trusted to mean durable: only what says so itself is counted.
    """

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, progress: Iterable[beam.PCollection]) -> beam.PCollection:
        """Wire the transform."""
        return (
            tuple(progress)
            | "Together" >> beam.Flatten()
            | "Count" >> beam.ParDo(_CountFn(self._config.retry_for)).with_output_types(str)
        )


class _CountFn(beam.DoFn):
    PROGRESS = ReadModifyWriteStateSpec("progress", BytesCoder())

    def __init__(self, retry_for: float | None) -> None:
        self._retry_for = retry_for
        self._done: dict[str, list[Progress]] = {}
        self._deleted = Metrics.counter("flowlogs", "messages_deleted")
        self._expired = Metrics.counter("flowlogs", "messages_expired")
        self._took = Metrics.distribution("flowlogs", "message_life_ms")

    def start_bundle(self) -> None:
        self._done = defaultdict(list)

    def process(self, element: tuple[str, bytes], state=beam.DoFn.StateParam(PROGRESS)) -> None:  # type: ignore[no-untyped-def]  # noqa: B008
        _, data = element
        progress = Progress.decode(data)
        known = state.read()
        if known:
            progress = progress.plus(Progress.decode(known))
        if progress.done:
            state.clear()
            self._done[progress.queue_url].append(progress)
        else:
            state.write(progress.encode())

    def finish_bundle(self) -> None:
        # Deleted before the bundle commits: if this fails, state and all are restored and it is tried again.
        for queue_url, done in self._done.items():
            receipts = [progress.receipt for progress in done]
            deleted = connect_queue(queue_url, self._retry_for).delete(receipts)
            self._deleted.inc(deleted)
            self._expired.inc(len(receipts) - deleted)
            keeper().let_go(receipts)
            now_ms = time.time() * 1000
            for progress in done:
                self._took.update(max(0, int(now_ms - progress.sent_ms)))
