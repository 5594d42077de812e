"""Merged roll-ups in; alerts in Elasticsearch, notices of them, and progress out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import orjson
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.alert_history import AlertHistory, Series
from beam_flowlogs.alert_notice import is_recent, notify
from beam_flowlogs.alert_past import Past, Rolled
from beam_flowlogs.alert_rules import evaluate
from beam_flowlogs.alert_store import AlertStore, Evaluated, Subject
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer, connect
from beam_flowlogs.part_codec import shard_number
from beam_flowlogs.refused import set_aside
from beam_flowlogs.rollup import MergedRollUp, RollUpKey
from beam_flowlogs.rollup_document import about_key
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress

_WINDOWS_AT_ONCE = 5_000
"""Roll-ups that are held: a backfill brings a day of many keys together."""
_DAY_S = 86_400
"""What a backfill sorts in memory, of a shard: some 7 MB for each thousand interfaces. A year of it was gigabytes."""

Watched = tuple[str, bytes]
"""What the rules see of the roll-ups of one window and shard; and how many parts of which messages they are of."""


def encode_watched(
    found: Iterable[tuple[RollUpKey, MergedRollUp, Iterable[str]]],
) -> Iterator[Watched]:
    """Yield what the rules see of roll-ups, each given with the message token of every part merged."""
    together: dict[tuple[int, int, int], tuple[dict[str, int], dict[Any, int], list[Any]]] = {}
    for key, rollup, tokens in found:
        shard = shard_number(key.key_type, key.key)
        merged, said, rows = together.setdefault((key.window_s, key.start, shard), ({}, {}, []))
        about = said.setdefault(tuple(rollup.dimensions.items()), len(said))
        rows.append((key.key_type, key.key, about, rollup.seen()))
        for token in tokens:
            merged[token] = merged.get(token, 0) + 1
    for (window_s, start, shard), (merged, said, rows) in together.items():
        yield str(shard), orjson.dumps([start, window_s, merged, list(said), rows])


class Detect(beam.PTransform):
    """Evaluate the alert rules on roll-ups of the shortest window, given by ``encode_watched`` in the global window.

    Out: progress by message token, ``tuple[str, bytes]``, once the alerts that its roll-ups give rise to are
    durable, or set aside.
    Bounded input is evaluated once it is all there, a day of a shard at a time, endless input as it comes. Both give
    the same alerts, since an alert is a union of windows (alert_store.py), and what was before a day is in
    Elasticsearch by then.
    """

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, watched: beam.PCollection) -> beam.PCollection:
        """Wire the transform."""
        if watched.is_bounded:
            watched = (
                watched
                | "Day" >> beam.Map(_with_day).with_output_types(tuple[str, bytes])
                | "ByDay" >> beam.GroupByKey()
                | "Sort" >> beam.MapTuple(_in_order).with_output_types(tuple[str, Iterable[bytes]])
            )
        return (
            watched
            | "ByShard" >> beam.ParDo(_OneWorkerFn()).with_output_types(tuple[str, Iterable[bytes]])
            | "Evaluate" >> beam.ParDo(_EvaluateFn(self._config)).with_output_types(tuple[str, bytes])
        )


class _OneWorkerFn(beam.DoFn):
    """Gives roll-ups as they come, those of a shard on one worker, which remembers the windows before.

    Two workers at a time could each begin an alert of an episode that goes on over midnight.

    Its state is never written: declared, it makes a runner route by key. A GroupByKey would wait for a trigger.
    """

    ROUTED = ReadModifyWriteStateSpec("routed", BytesCoder())

    def process(  # type: ignore[no-untyped-def]
        self,
        element: tuple[str, bytes | Iterable[bytes]],
        _=beam.DoFn.StateParam(ROUTED),  # noqa: B008
    ) -> Iterator[tuple[str, Iterable[bytes]]]:
        shard, watched = element
        yield shard, [watched] if isinstance(watched, bytes) else watched


class _EvaluateFn(beam.DoFn):
    """Evaluates the roll-ups of many keys at a time: each is to be compared with the alerts that there are."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._new: dict[Series, dict[int, Rolled]] = {}
        self._about: dict[Series, Sequence[tuple[str, str]]] = {}
        self._merged: Counter[str] = Counter()
        self._held = 0
        self._opened = Metrics.counter("flowlogs", "alerts_opened")
        self._closed = Metrics.counter("flowlogs", "alerts_closed")

    def setup(self) -> None:
        config = self._config
        self._history = AlertHistory(lambda: connect(config.elasticsearch), retry_for=config.retry_for)
        self._store = AlertStore(
            lambda: connect(config.elasticsearch),
            bulk_writer(config.elasticsearch, config.bulk),
            retry_for=config.retry_for,
        )
        self._dead_letters = counted_dead_letters(config)

    def start_bundle(self) -> None:
        self._new, self._about, self._held = {}, {}, 0
        self._merged = Counter()

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        _, found = element
        for data in found:
            start, window_s, merged, said, rows = orjson.loads(data)
            for key_type, key, about, seen in rows:
                series = Series(window_s, key_type, key)
                self._new.setdefault(series, {})[start] = seen
                self._about[series] = said[about]
            self._merged.update(merged)
            self._held += len(rows)
            if self._held >= _WINDOWS_AT_ONCE:
                yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for progress in self._flush():
            yield WindowedValue(progress, GlobalWindow().max_timestamp(), [GlobalWindow()])

    def _flush(self) -> Iterator[tuple[str, bytes]]:
        if not self._new:
            return
        rules = self._config.alerts.rules
        by_name = {rule.name: rule for rule in rules}
        new = {
            series: {start: Past.of(rolled) for start, rolled in windows.items()}
            for series, windows in self._new.items()
        }
        evaluated: dict[Subject, Evaluated] = {}
        for series, past in self._history.extend(new).items():
            newest = max(past)
            for name, findings in evaluate(rules, self._new[series], past).items():
                about = about_key(*series[1:], self._about[series]) if findings else {}
                evaluated[Subject(name, *series)] = Evaluated(by_name[name], findings, newest, about)
        self._bring_up_to_date(evaluated)
        merged = self._merged
        self.start_bundle()
        for token, count in merged.items():
            if token != NO_MESSAGE:
                yield token, Progress(merged=count).encode()

    def _bring_up_to_date(self, evaluated: Mapping[Subject, Evaluated]) -> None:
        current, rejected = self._store.merge(evaluated)
        for name, item in rejected:
            set_aside(self._dead_letters, "alert", name, item)
        for alert in current:
            if alert.before != alert.status:
                self._opened.inc(not alert.before or alert.status == "open")
                self._closed.inc(alert.status == "closed")
        if self._config.alerts.tells:
            untold = [alert.document for alert in current if alert.is_untold and is_recent(alert.document)]
            self._store.mark_told(notify(self._config.alerts, untold))


def _with_day(element: Watched) -> tuple[str, bytes]:
    shard, data = element
    return f"{shard} {_start_of(data) // _DAY_S}", data


def _in_order(key: str, found: Iterable[bytes]) -> tuple[str, Iterable[bytes]]:
    """Return the shard and its roll-ups of a day, the past first: some may be evaluated before the others."""
    return key.partition(" ")[0], sorted(found, key=_start_of)


def _start_of(data: bytes) -> int:
    return int(data[1 : data.index(b",")])
