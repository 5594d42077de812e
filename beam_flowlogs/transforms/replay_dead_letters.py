"""Dead letters in, each put through again on some worker; nothing comes out but what is durable and the counters."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer, connect
from beam_flowlogs.reject import DeadLetters, Selection
from beam_flowlogs.replay import Replay, plan, replay
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.transforms.metrics import counted_dead_letters


class ReplayDeadLetters(beam.PTransform):
    """Put the selected dead letters of a job through again: bounded, in the order in which workers take them."""

    def __init__(self, config: JobConfig, selection: Selection) -> None:
        super().__init__()
        self._config = config
        self._selection = selection

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the transform."""
        return (
            pbegin
            | "Location" >> beam.Create([self._config.dead_letters])
            | "Plan" >> beam.ParDo(_PlanFn(self._config, self._selection))
            | "Spread" >> beam.Reshuffle()
            | "Replay" >> beam.ParDo(_ReplayFn(self._config))
        )


class _PlanFn(beam.DoFn):
    def __init__(self, config: JobConfig, selection: Selection) -> None:
        self._config = config
        self._selection = selection

    def process(self, location: str) -> Iterator[Replay]:
        yield from plan(DeadLetters(location, retry_for=self._config.retry_for).read(), self._config, self._selection)


class _ReplayFn(beam.DoFn):
    def __init__(self, config: JobConfig) -> None:
        self._config = config

    def process(self, task: Replay) -> None:
        config = self._config
        writer = bulk_writer(config.elasticsearch, config.bulk)
        # Merged here and now, not in windows: an object's dead letters are settled as soon as it is durable.
        store = RollUpStore(lambda: connect(config.elasticsearch), writer, retry_for=config.retry_for)
        done = replay(task, config, s3_client(), writer, store, counted_dead_letters(config))
        for name, count in done.counts.items():
            Metrics.counter("flowlogs", name).inc(count)
