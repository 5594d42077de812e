"""Parts of roll-ups in; merged roll-up documents durable in Elasticsearch, and progress out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import orjson
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer, connect
from beam_flowlogs.refused import set_aside
from beam_flowlogs.rollup import Part, RollUpKey, decode_part
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.transforms.detect import Detect, Watched, encode_watched
from beam_flowlogs.transforms.group_parts import TOKEN_END, Grouped, GroupParts
from beam_flowlogs.transforms.metrics import counted_dead_letters
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress
from beam_flowlogs.transforms.typed import typed

_ROLLUPS_AT_ONCE = 500


class RollUp(beam.PTransform):
    """Bring the parts of each roll-up together in its window and merge them into its document.

    In: ``tuple[str, bytes]`` from ``encode_keyed_part``, stamped with the window's start. Out: progress by message
    token, ``tuple[str, bytes]``, in the global window, once the alert rules were evaluated on what the documents say.
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
        self._parts: dict[RollUpKey, list[Part]] = {}
        self._panes: dict[RollUpKey, str] = {}
        self._tokens: dict[RollUpKey, Counter[str]] = {}
        self._counters = {
            name: Metrics.counter("flowlogs", f"rollups_{name}")
            for name in ("created", "updated", "unchanged", "overtaken", "rejected")
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
        self._parts, self._panes, self._tokens = {}, {}, {}

    def process(self, element: Grouped) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        text, pane, values = element
        key = RollUpKey(*orjson.loads(text))
        parts, tokens = self._parts.setdefault(key, []), self._tokens.setdefault(key, Counter())
        self._panes[key] = pane
        for value in values:
            token, _, data = value.partition(TOKEN_END)
            parts.append(decode_part(data))
            tokens[token.decode()] += 1
        if len(self._parts) >= _ROLLUPS_AT_ONCE:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        for output in self._flush():
            if isinstance(output, beam.pvalue.TaggedOutput):
                yield beam.pvalue.TaggedOutput(output.tag, _in_global_window(output.value))
            else:
                yield _in_global_window(output)

    def _flush(self) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        if not self._parts:
            return
        result = self._store.merge(self._parts, self._panes)
        for name in ("created", "updated", "unchanged", "overtaken"):
            self._counters[name].inc(getattr(result, name))
        for key, item in result.rejected:
            set_aside(self._dead_letters, "rollup", key.id, item)
            self._counters["rejected"].inc()
        merged: Counter[str] = Counter()
        for key, tokens in self._tokens.items():
            if self._config.alerts.rules and key.window_s == self._config.windows[0] and key in result.documents:
                yield beam.pvalue.TaggedOutput("watched", encode_watched(key, result.documents[key], tokens))
            else:
                merged.update(tokens)
        self.start_bundle()
        for token, count in merged.items():
            if token != NO_MESSAGE:
                yield token, Progress(merged=count).encode()


def _in_global_window(value: Any) -> WindowedValue:
    return WindowedValue(value, GlobalWindow().max_timestamp(), [GlobalWindow()])
