"""Documents or ready bulk items in, all of them in Elasticsearch or among the rejects: Beam's edge of the sink."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.bulk import BulkConfig, BulkResult, BulkStream, BulkWriter
from beam_flowlogs.bulk_item import ItemFormat, are_items, split_body
from beam_flowlogs.bulk_request import check_items
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer
from beam_flowlogs.reject import Reject
from beam_flowlogs.transforms.typed import typed

_REJECTS = "rejects"
_FEW = 8  # an array that fills less than this part of a body is gathered with others
_LONGEST_REPR = 65536
_LONGEST_WAIT = 1.0  # seconds that an item waits in a long bundle for others to fill its body


class Written(NamedTuple):
    """What a bundle wrote: `written + duplicates + rejected` items, all of them durable or among the rejects."""

    written: int
    duplicates: int  # there already: a create whose id exists, or a version that was overtaken
    rejected: int


class WriteElasticsearchResult(NamedTuple):
    """One Written per bundle, and a Reject for every item that will never be taken; both in the global window."""

    written: beam.PCollection
    rejects: beam.PCollection


class WriteToElasticsearch(beam.PTransform):
    """Writes every element to Elasticsearch, or hands it back as a reject with the reason.

        writes = documents | WriteToElasticsearch(config, ItemFormat("flows-%Y.%m.%d", id="flow_id"))
        writes.rejects | WriteToText("rejects")

    Elements: a document (dict), an Arrow RecordBatch of documents, or, ready for Elasticsearch and without need of a
    `format`, the bytes of a bulk body of one item or many, or a binary Arrow array of such bodies without nulls; each
    item must have an id of its own. Where one body of an array is of many items or damaged, the array is taken apart;
    else it is not looked into, and an item without an id is not found out.

    A bundle ends when all its items are durable or rejected; what the cluster cannot take now is sent again, so it
    slows the pipeline down and loses nothing. `bulk.retry_for` bounds the patience: the bundle then fails, and the
    runner retries it. Ids make that harmless.

    Items are gathered into bodies within a bundle; a body leaves when it is full, with the item that comes a second
    after its first, and with the end of the bundle. Large arrays are sent from where they lie. Streaming runners may
    make tiny bundles: `batch_seconds` then gathers across them, for so long at most. It sends every item through a
    shuffle, so use it for low rates only.

    Metrics, of namespace `elasticsearch`: counters `documents`, `duplicates`, `bytes`, `retries` and
    `rejected_<reason>`, distribution `bulk_ms` (milliseconds of each request), gauges `in_flight` and `concurrency`.
    """

    def __init__(
        self,
        config: ElasticsearchConfig,
        format: ItemFormat | None = None,  # noqa: A002 (the word a caller expects)
        *,
        bulk: BulkConfig | None = None,
        batch_seconds: float | None = None,
    ) -> None:
        super().__init__()
        if batch_seconds is not None and batch_seconds <= 0:
            raise ValueError(f"batch_seconds must be above 0, or None to stay within bundles, not {batch_seconds}")
        self._config = config
        self._format = format
        self._bulk = bulk or BulkConfig()
        self._batch_seconds = batch_seconds

    def expand(self, elements: beam.PCollection) -> WriteElasticsearchResult:
        """Wire the steps."""
        rendered = (
            elements
            | "UseGlobalWindow" >> beam.WindowInto(GlobalWindows())
            | "Render" >> beam.ParDo(_RenderFn(self._format)).with_outputs(_REJECTS, main="items")
        )
        items = rendered.items
        if self._batch_seconds is not None:
            items = items | "Gather" >> _Gather(self._bulk.max_actions, self._batch_seconds)
        sent = items | "Send" >> beam.ParDo(_SendFn(self._config, self._bulk)).with_outputs(_REJECTS, main="written")
        rejects = (rendered[_REJECTS], sent[_REJECTS]) | "Rejects" >> beam.Flatten()
        return WriteElasticsearchResult(
            written=typed(sent.written, "Written", Written),
            rejects=typed(rejects, "Rejects", Reject),
        )


class BulkMetrics:
    """The sink's counters; `count` is called where a bundle's result is known, in a thread of Beam's own."""

    def __init__(self) -> None:
        space = "elasticsearch"
        self._documents = Metrics.counter(space, "documents")
        self._duplicates = Metrics.counter(space, "duplicates")
        self._bytes = Metrics.counter(space, "bytes")
        self._retries = Metrics.counter(space, "retries")
        self._milliseconds = Metrics.distribution(space, "bulk_ms")
        self._in_flight = Metrics.gauge(space, "in_flight")
        self._concurrency = Metrics.gauge(space, "concurrency")

    def count(self, result: BulkResult, writer: BulkWriter) -> None:
        """Add `result` to the pipeline's metrics."""
        self._documents.inc(result.written)
        self._duplicates.inc(result.duplicates)
        self._bytes.inc(result.bytes)
        self._retries.inc(result.retries)
        for milliseconds in result.latencies:
            self._milliseconds.update(milliseconds)
        for reason, number in Counter(item.reason for item in result.rejected).items():
            Metrics.counter("elasticsearch", f"rejected_{reason}").inc(number)
        self._in_flight.set(writer.in_flight)
        self._concurrency.set(writer.concurrency)


class _RenderFn(beam.DoFn):
    def __init__(self, item_format: ItemFormat | None) -> None:
        self._format = item_format

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        if isinstance(element, pa.Array):
            if len(element):  # one of nothing may be of any type
                check_items(element)
                yield from [element] if are_items(element) else _items_of(element.to_pylist())
        elif isinstance(element, bytes):
            yield from _items_of([element])
        elif self._format is None:
            raise TypeError(f"{type(element).__name__} is no bulk item: give WriteToElasticsearch an ItemFormat")
        elif isinstance(element, pa.RecordBatch):
            batch: list[bytes] = []
            for row in element.to_pylist():
                try:
                    batch.append(self._format.render(row, _moment(timestamp)))
                except ValueError as e:
                    yield _not_renderable(e, _repr(row))
            yield pa.array(batch, pa.large_binary())
        else:
            try:
                yield self._format.render(element, _moment(timestamp))
            except ValueError as e:
                yield _not_renderable(e, _repr(element))


def _items_of(bodies: Iterable[bytes]) -> Iterator[Any]:
    """Yield the items of bulk bodies; a body that is none is a reject, and kept whole: mended, it can be sent again."""
    items: list[bytes] = []
    for body in bodies:
        try:
            items += split_body(body)
        except ValueError as e:
            yield _not_renderable(e, body)
    if len(items) > 1:
        yield pa.array(items, pa.large_binary())
    else:
        yield from items


def _repr(element: Any) -> bytes:
    """Return what to know a document by that cannot be sent, nor made again of this."""
    return repr(element).encode(errors="backslashreplace")[:_LONGEST_REPR]


def _moment(timestamp: Any) -> datetime:
    # The far ends of Beam's time lie outside of datetime's; an index named by them is wrong either way.
    return datetime.fromtimestamp(min(max(timestamp.micros / 1e6, 0), 253402300799), timezone.utc)


def _not_renderable(error: ValueError, data: bytes) -> Any:
    return beam.pvalue.TaggedOutput(_REJECTS, Reject("document", "not-renderable", str(error), data=data))


class _Gather(beam.PTransform):
    def __init__(self, size: int, seconds: float) -> None:
        super().__init__()
        self._size, self._seconds = size, seconds

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        return (
            items
            | "Singly" >> beam.FlatMap(_singly).with_output_types(bytes)
            | "Key" >> beam.Map(_with_key).with_output_types(tuple[str, bytes])
            | "Batch" >> beam.GroupIntoBatches.WithShardedKey(self._size, self._seconds)
            | "Unkey" >> beam.FlatMap(_values).with_output_types(bytes)
        )


class _SendFn(beam.DoFn):
    def __init__(
        self, config: ElasticsearchConfig, bulk: BulkConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._bulk, self._clock = config, bulk, clock
        self._stream: BulkStream | None = None

    def setup(self) -> None:
        self._writer = bulk_writer(self._config, self._bulk)
        self._metrics = BulkMetrics()

    def start_bundle(self) -> None:
        self.teardown()  # a bundle that failed leaves its stream behind
        self._stream = self._writer.stream()
        self._items: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._counts = Written(0, 0, 0)
        self._earliest: Any = None

    def process(self, element: bytes | pa.Array, timestamp: Any = beam.DoFn.TimestampParam) -> Iterable[Any]:
        self._earliest = timestamp if self._earliest is None else min(timestamp, self._earliest)
        assert self._stream is not None
        if isinstance(element, bytes):
            submitted = self._gather(element)
        elif len(element) * _FEW < self._bulk.max_actions and element.nbytes * _FEW < self._bulk.max_bytes:
            submitted = sum(map(self._gather, element.to_pylist())) > 0
        else:
            self._submit()
            self._stream.submit(element)
            submitted = True
        if submitted:
            # Rejects leave as they come: a bundle of nothing else must not fill the memory.
            for reject in self._take(self._stream.poll()):
                yield beam.pvalue.TaggedOutput(_REJECTS, reject)

    def _gather(self, item: bytes) -> bool:
        """Keep an item until there are enough for a body, and tell whether one has left."""
        submitted = bool(self._items) and self._size + len(item) > self._bulk.max_bytes
        if submitted:
            self._submit()
        now = self._clock()
        if not self._items:
            self._since = now
        self._items.append(item)
        self._size += len(item)
        if len(self._items) >= self._bulk.max_actions or now - self._since >= _LONGEST_WAIT:
            submitted = True
            self._submit()
        return submitted

    def finish_bundle(self) -> Iterable[Any]:
        if self._earliest is None:
            return
        self._submit()
        assert self._stream is not None
        for reject in self._take(self._stream.flush()):
            yield beam.pvalue.TaggedOutput(_REJECTS, self._placed(reject))
        yield self._placed(self._counts)

    def teardown(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _submit(self) -> None:
        assert self._stream is not None
        if self._items:
            self._stream.submit(pa.array(self._items, pa.large_binary()))
            self._items, self._size = [], 0

    def _take(self, result: BulkResult) -> list[Reject]:
        self._metrics.count(result, self._writer)
        before = self._counts
        self._counts = Written(
            before.written + result.written,
            before.duplicates + result.duplicates,
            before.rejected + len(result.rejected),
        )
        return [Reject("document", item.reason, item.detail, data=item.data) for item in result.rejected]

    def _placed(self, value: Any) -> WindowedValue:
        return WindowedValue(value, self._earliest, [GlobalWindow()])


def _with_key(item: bytes) -> tuple[str, bytes]:
    return "", item


def _singly(element: bytes | pa.Array) -> Iterable[bytes]:
    return [element] if isinstance(element, bytes) else element.to_pylist()


def _values(keyed: tuple[Any, Iterable[bytes]]) -> Iterable[bytes]:
    return keyed[1]
