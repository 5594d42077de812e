"""Parts of roll-ups in; merged roll-up documents durable in Elasticsearch, and progress out."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer, connect
from beam_flowlogs.part_codec import OtherVersionError, Shard, decode_parts
from beam_flowlogs.refused import set_aside
from beam_flowlogs.rollup import MergedRollUp, Part, RollUpKey
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.transforms.detect import Detect, Watched, encode_watched
from beam_flowlogs.transforms.group_parts import Grouped, GroupParts, Parts
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress
from beam_flowlogs.transforms.typed import typed

_logger = logging.getLogger(__name__)

_ROLLUPS_AT_ONCE = 500


class RollUp(beam.PTransform):
    """Bring the parts of each roll-up together in its window and merge them into its document.

    In: ``tuple[str, bytes]``, encoded shard and value of ``keyed_parts``, stamped with the window's start. Out:
    progress by message token, ``tuple[str, bytes]``, in the global window, once the alert rules were evaluated on what
    the documents say.
    """

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        """Wire the transform."""
        merged = (
            parts
            | "Group" >> GroupParts(self._config.windows, self._config.lateness_s)
            | "Merge" >> beam.ParDo(_MergeFn(self._config)).with_outputs("watched", main="progress")
        )
        progress = typed(merged.progress, "Progress", tuple[str, bytes])
        watched = typed(merged.watched, "Watched", Watched)
        return (progress, watched | "Detect" >> Detect(self._config)) | "Together" >> beam.Flatten()


class _MergeFn(beam.DoFn):
    """Merges the roll-ups of a bundle some hundreds at a time: a round trip each would be too many."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._parts: dict[RollUpKey, list[Part]] = defaultdict(list)
        self._tokens: dict[RollUpKey, list[str]] = defaultdict(list)  # of each part
        self._panes: dict[RollUpKey, str] = {}
        self._counters = {
            name: Metrics.counter("flowlogs", name)
            for name in (
                *(f"rollups_{fate}" for fate in ("created", "updated", "unchanged", "overtaken", "rejected")),
                "parts_of_other_version",
            )
        }

    def setup(self) -> None:
        config = self._config
        self._store = RollUpStore(
            lambda: connect(config.elasticsearch),
            bulk_writer(config.elasticsearch, config.bulk),
            retry_for=config.retry_for,
        )
        self._dead_letters = counted_dead_letters(config)

    def start_bundle(self) -> None:
        self._parts, self._tokens, self._panes = defaultdict(list), defaultdict(list), {}

    def process(self, element: Grouped) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        text, pane, values = element
        shard = Shard.decode(text)
        for value in values:
            token, size, data = Parts.of(value)
            try:
                found = decode_parts(shard, data)
            except OtherVersionError as error:
                self._leave(token, size, error)
                continue
            for key, part in found:
                self._parts[key].append(part)
                self._tokens[key].append(token)
                self._panes[key] = pane
        if len(self._parts) >= _ROLLUPS_AT_ONCE:
            yield from self._flush()

    def _leave(self, token: str, size: int, error: OtherVersionError) -> None:
        """Leave parts out that a restored job brought along: they come again, since their message is not done."""
        if token == NO_MESSAGE:
            raise error
        self._counters["parts_of_other_version"].inc(size)
        _logger.warning("%s were left out: their message is delivered again, and its objects read anew", error)

    def finish_bundle(self) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        for output in self._flush():
            if isinstance(output, beam.pvalue.TaggedOutput):
                yield beam.pvalue.TaggedOutput(output.tag, _in_global_window(output.value))
            else:
                yield _in_global_window(output)

    def _flush(self) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        keys = list(self._parts)
        merged: Counter[str] = Counter()
        for begin in range(0, len(keys), _ROLLUPS_AT_ONCE):
            some = keys[begin : begin + _ROLLUPS_AT_ONCE]
            result = self._store.merge({key: self._parts[key] for key in some}, self._panes)
            for name in ("created", "updated", "unchanged", "overtaken"):
                self._counters[f"rollups_{name}"].inc(getattr(result, name))
            for key, item in result.rejected:
                set_aside(self._dead_letters, "rollup", key.id, item)
                self._counters["rollups_rejected"].inc()
            watched: list[tuple[RollUpKey, MergedRollUp, list[str]]] = []
            for key in some:
                tokens = self._tokens[key]
                if self._config.alerts.rules and key.window_s == self._config.windows[0] and key in result.rollups:
                    watched.append((key, result.rollups[key], tokens))
                else:
                    merged.update(tokens)
            for element in encode_watched(watched):
                yield beam.pvalue.TaggedOutput("watched", element)
        self.start_bundle()
        for token, count in merged.items():
            if token != NO_MESSAGE:
                yield token, Progress(merged=count).encode()


def _in_global_window(value: Any) -> WindowedValue:
    return WindowedValue(value, GlobalWindow().max_timestamp(), [GlobalWindow()])
