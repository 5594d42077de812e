"""Parts of roll-ups in; merged roll-up documents durable in Elasticsearch, and progress out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
import orjson
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import bulk_writer, connect
from beam_flowlogs.reject import DeadLetters, Reject, rollup_file
from beam_flowlogs.rollup import Part, RollUpKey, decode_part
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.transforms.group_parts import TOKEN_END, Grouped, GroupParts
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress

_logger = logging.getLogger(__name__)

_ROLLUPS_AT_ONCE = 500


class RollUp(beam.PTransform):
    """Bring the parts of each roll-up together in its window and merge them into its document.

    In: ``tuple[str, bytes]`` from ``encode_keyed_part``, stamped with the window's start. Out: progress by message
    token, ``tuple[str, bytes]``, in the global window.
    """

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        """Wire the transform."""
        return (
            parts
            | "Group" >> GroupParts(self._config.windows, self._config.lateness_s)
            | "Merge" >> beam.ParDo(_MergeFn(self._config)).with_output_types(tuple[str, bytes])
        )


class _MergeFn(beam.DoFn):
    """Merges the roll-ups of a bundle some hundreds at a time: a round trip each would be too many."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._parts: dict[RollUpKey, list[Part]] = {}
        self._panes: dict[RollUpKey, str] = {}
        self._merged: Counter[str] = Counter()
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
        self._dead_letters = DeadLetters(config.dead_letters)

    def start_bundle(self) -> None:
        self._parts, self._panes = {}, {}
        self._merged = Counter()

    def process(self, element: Grouped) -> Iterator[tuple[str, bytes]]:
        text, pane, values = element
        key = RollUpKey(*orjson.loads(text))
        parts = self._parts.setdefault(key, [])
        self._panes[key] = pane
        for value in values:
            token, _, data = value.partition(TOKEN_END)
            parts.append(decode_part(data))
            self._merged[token.decode()] += 1
        if len(self._parts) >= _ROLLUPS_AT_ONCE:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for progress in self._flush():
            yield WindowedValue(progress, GlobalWindow().max_timestamp(), [GlobalWindow()])

    def _flush(self) -> Iterator[tuple[str, bytes]]:
        if not self._parts:
            return
        result = self._store.merge(self._parts, self._panes)
        for name in ("created", "updated", "unchanged", "overtaken"):
            self._counters[name].inc(getattr(result, name))
        for key, item in result.rejected:
            detail = f"roll-up {key.id}: Elasticsearch answers {item.status}: {item.detail}"
            _logger.warning("a roll-up was set aside: %s", detail)
            reject = Reject("rollup", item.reason, detail, data=item.data)
            self._dead_letters.write(rollup_file(key.id, item.data), [reject])
            self._counters["rejected"].inc()
        merged = self._merged
        self.start_bundle()
        for token, count in merged.items():
            if token != NO_MESSAGE:
                yield token, Progress(merged=count).encode()
