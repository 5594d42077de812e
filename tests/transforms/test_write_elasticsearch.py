from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline as BeamTestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Timestamp

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.bulk_item import ItemFormat
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.reject import Reject
from beam_flowlogs.transforms.write_elasticsearch import (
    WriteElasticsearchResult,
    WriteToElasticsearch,
    Written,
    _RenderFn,
    _SendFn,
)
from tests.fake_elasticsearch import FakeElasticsearch, error

FAST = BulkConfig(first_delay=0.01, longest_delay=0.05)


@pytest.fixture
def server() -> Iterator[FakeElasticsearch]:
    with FakeElasticsearch() as fake:
        yield fake


def pipeline() -> BeamTestPipeline:
    return BeamTestPipeline(runner="FnApiRunner")


def sink(
    server: FakeElasticsearch, *formats: ItemFormat, bulk: BulkConfig = FAST, **options: Any
) -> WriteToElasticsearch:
    return WriteToElasticsearch(ElasticsearchConfig(urls=(server.url,)), *formats, bulk=bulk, **options)


def totals(writes: WriteElasticsearchResult) -> beam.PCollection:
    return writes.written | "Total" >> beam.CombineGlobally(_total)


def _total(parts: Any) -> Written:
    return Written(*(sum(column) for column in zip(Written(0, 0, 0), *parts, strict=True)))


def reasons(writes: WriteElasticsearchResult) -> beam.PCollection:
    return writes.rejects | "Reasons" >> beam.Map(_reason)


def _reason(reject: Reject) -> tuple[str, str]:
    assert isinstance(reject, Reject)
    return reject.stage, reject.reason


def test_documents_are_written_and_counted(server: FakeElasticsearch) -> None:
    with pipeline() as p:
        documents = p | beam.Create([{"_id": str(n), "n": n} for n in range(25)])
        writes = documents | sink(server, ItemFormat("i"))
        assert_that(totals(writes), equal_to([Written(25, 0, 0)]))
        assert_that(reasons(writes), equal_to([]), label="no rejects")
    assert server.documents == {str(n): {"n": n} for n in range(25)}


def test_ready_items_need_no_format_alone_or_in_arrays(server: FakeElasticsearch) -> None:
    item = b'{"create":{"_index":"i","_id":"%d"}}\n{"n":%d}\n'
    with pipeline() as p:
        elements = [item % (0, 0), pa.array([item % (1, 1), item % (2, 2)])]
        writes = p | beam.Create(elements, reshuffle=False) | sink(server)
        assert_that(totals(writes), equal_to([Written(3, 0, 0)]))
    assert len(server.documents) == 3


def test_a_ready_body_may_hold_many_items_and_what_is_none_is_a_reject(server: FakeElasticsearch) -> None:
    body = b"".join(b'{"create":{"_index":"i","_id":"%d"}}\n{"n":%d}\n' % (n, n) for n in range(5))
    wrong = [b'{"create":{"_index":"i"}}\n{}\n', b'{"delete":{"_index":"i","_id":"1"}}\n', b"hello"]
    with pipeline() as p:
        writes = p | beam.Create([body, *wrong], reshuffle=False) | sink(server)
        assert_that(totals(writes), equal_to([Written(5, 0, 0)]))
        assert_that(writes.rejects | beam.Map(_data), equal_to(wrong), label="rejects")
    assert server.documents == {str(n): {"n": n} for n in range(5)}


def _data(reject: Reject) -> bytes:
    return reject.data


@pytest.mark.parametrize("few", [True, False])
def test_the_bodies_of_an_array_may_hold_many_items_too_and_what_is_none_is_a_reject(
    server: FakeElasticsearch, few: bool
) -> None:
    item = b'{"create":{"_index":"i","_id":"%d"}}\n{}\n'
    wrong = [b'{"delete":{"_index":"i","_id":"1"}}\n' * 2, b"hello"]
    array = pa.array([item % 0, item % 1 + item % 2, *wrong, item % 3])
    bulk = BulkConfig(max_actions=100 if few else 5, first_delay=0.01, retry_for=1)
    with pipeline() as p:
        writes = p | beam.Create([array], reshuffle=False) | sink(server, bulk=bulk)
        assert_that(totals(writes), equal_to([Written(4, 0, 0)]))
        assert_that(writes.rejects | beam.Map(_data), equal_to(wrong), label="rejects")
    assert sorted(server.documents) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize(
    ("kind", "body", "message"), [(pa.string(), "{}\n{}\n", "cast it"), (pa.binary(), None, "drop them first")]
)
def test_an_array_of_another_type_is_an_error_with_the_cure_whatever_its_size(
    kind: pa.DataType, body: str | None, message: str, count: int
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        list(_RenderFn(None).process(pa.array([body] * count, kind), Timestamp(0)))


def test_an_array_of_nothing_is_nothing_whatever_its_type() -> None:
    assert list(_RenderFn(None).process(pa.array([]), Timestamp(0))) == []


def test_of_a_document_that_cannot_be_sent_a_reject_keeps_what_it_can_be_known_by(server: FakeElasticsearch) -> None:
    document = {"no": "id", "surrogate": "\ud800", "text": "x" * 1_000_000}
    rejects = [found.value for found in _RenderFn(ItemFormat("i")).process(document, Timestamp(0))]

    assert [reject.reason for reject in rejects] == ["not-renderable"]
    assert rejects[0].data.startswith(b"{'no': 'id', 'surrogate': '\\ud800'")
    assert len(rejects[0].data) == 65536


def test_a_large_array_travels_as_it_is_and_small_ones_are_gathered(server: FakeElasticsearch) -> None:
    def array(first: int, count: int) -> pa.Array:
        return pa.array([b'{"create":{"_index":"i","_id":"%d"}}\n{}\n' % n for n in range(first, first + count)])

    bulk = BulkConfig(max_actions=32, first_delay=0.01, concurrency=1)
    with pipeline() as p:
        arrays = [array(0, 3), array(3, 3), array(6, 4), array(10, 2)]
        writes = p | beam.Create(arrays, reshuffle=False) | sink(server, bulk=bulk)
        assert_that(totals(writes), equal_to([Written(12, 0, 0)]))
    assert [len(body) for body in server.bodies] == [6, 4, 2]


def test_arrow_batches_are_documents_by_row(server: FakeElasticsearch) -> None:
    batch = pa.record_batch({"_id": ["a", "b"], "n": [1, None]})
    with pipeline() as p:
        writes = p | beam.Create([batch]) | sink(server, ItemFormat("i"))
        assert_that(totals(writes), equal_to([Written(2, 0, 0)]))
    assert server.documents == {"a": {"n": 1}, "b": {"n": None}}


def test_what_cannot_be_written_comes_out_as_a_reject_and_the_rest_is_written(server: FakeElasticsearch) -> None:
    server.item_fault = lambda name, _: (400, "document_parsing_exception") if name == "3" else None
    with pipeline() as p:
        documents = p | beam.Create([*({"_id": str(n)} for n in range(5)), {"no": "id"}])
        writes = documents | sink(server, ItemFormat("i"))
        expected = [("document", "document_parsing_exception"), ("document", "not-renderable")]
        assert_that(reasons(writes), equal_to(expected))
        assert_that(totals(writes), equal_to([Written(4, 0, 1)]), label="totals")
    assert sorted(server.documents) == ["0", "1", "2", "4"]


def test_a_reject_holds_the_bytes_that_a_replay_needs(server: FakeElasticsearch) -> None:
    server.item_fault = lambda _, __: (400, "document_parsing_exception")
    with pipeline() as p:
        writes = p | beam.Create([{"_id": "3", "n": 1}]) | sink(server, ItemFormat("i"))
        data = b'{"create":{"_index":"i","_id":"3"}}\n{"n":1}\n'
        reject = Reject("document", "document_parsing_exception", "item 3", data=data)
        assert_that(writes.rejects, equal_to([reject]))


def test_writing_again_changes_nothing_and_counts_duplicates(server: FakeElasticsearch) -> None:
    server.documents = {"1": {"n": "old"}}
    with pipeline() as p:
        writes = p | beam.Create([{"_id": str(n)} for n in range(3)]) | sink(server, ItemFormat("i"))
        assert_that(totals(writes), equal_to([Written(2, 1, 0)]))
    assert server.documents["1"] == {"n": "old"}


def test_windowed_and_timestamped_input_goes_to_the_index_of_its_time(server: FakeElasticsearch) -> None:
    server.item_fault = lambda name, _: (400, "bad") if name == "2" else None
    with pipeline() as p:
        documents = (
            p
            | beam.Create([1, 2])
            | beam.Map(lambda n: beam.window.TimestampedValue({"_id": str(n)}, n * 86400))
            | beam.WindowInto(FixedWindows(60))
        )
        writes = documents | sink(server, ItemFormat(_index_of))
        assert_that(reasons(writes), equal_to([("document", "bad")]))
        assert_that(totals(writes), equal_to([Written(1, 0, 1)]), label="totals")


def _index_of(time: datetime) -> str:
    return f"flows-{time:%m-%d}"


def test_gathering_across_bundles_writes_everything(server: FakeElasticsearch) -> None:
    batch = pa.record_batch({"_id": [str(n) for n in range(50, 60)]})
    with pipeline() as p:
        documents = p | beam.Create([*({"_id": str(n)} for n in range(50)), batch])
        writes = documents | sink(server, ItemFormat("i"), batch_seconds=0.1)
        assert_that(totals(writes), equal_to([Written(60, 0, 0)]))
    assert len(server.documents) == 60


@pytest.mark.parametrize(("seconds", "requests"), [(None, 20), (60, 1)])
def test_gathering_turns_tiny_bundles_into_one_body(
    server: FakeElasticsearch, seconds: float | None, requests: int
) -> None:
    stream = TestStream()
    for n in range(20):  # a bundle each
        stream.add_elements([{"_id": str(n)}])
    stream.advance_watermark_to_infinity()
    # The only runner inside of Python that knows TestStream.
    with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as p:
        p | stream | sink(server, ItemFormat("i"), batch_seconds=seconds)
    assert len(server.documents) == 20
    assert len(server.bodies) == requests


def test_what_was_gathered_leaves_after_the_stated_wait_however_little_it_is(server: FakeElasticsearch) -> None:
    stream = TestStream()
    for n in range(3):
        stream.add_elements([{"_id": str(n)}])
    stream.advance_processing_time(int(2 * time.time()))  # the step reads the real clock, the runner begins at 0
    stream.add_elements([{"_id": "3"}])
    stream.advance_watermark_to_infinity()
    with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as p:
        p | stream | sink(server, ItemFormat("i"), batch_seconds=5)
    assert server.bodies == [["0", "1", "2"], ["3"]]


def test_in_a_long_bundle_no_item_waits_long_for_others(server: FakeElasticsearch) -> None:
    now = [0.0]
    send = _SendFn(ElasticsearchConfig(urls=(server.url,)), FAST, lambda: now[0])
    send.setup()
    send.start_bundle()
    server.item_fault = lambda name, _: (400, "bad") if name == "0" else None
    rejects: list[Any] = []
    for n in range(5):
        rejects += send.process(b'{"create":{"_index":"i","_id":"%d"}}\n{}\n' % n, Timestamp(0))
        now[0] += 0.6
    while not (rejects or send._stream is None):
        rejects += send._take(send._stream.poll())
    assert len(rejects) == 1
    assert [len(body) for body in server.bodies] in ([3], [3, 2])
    list(send.finish_bundle())
    assert list(map(len, server.bodies)) == [3, 2]
    send.teardown()


def test_a_bundle_that_is_out_of_patience_fails_the_pipeline(server: FakeElasticsearch) -> None:
    server.answers.extend([error(401, "security_exception")] * 100)
    impatient = BulkConfig(first_delay=0.01, longest_delay=0.02, retry_for=0.05)
    p = beam.Pipeline("FnApiRunner", options=PipelineOptions([]))
    p | beam.Create([{"_id": "1"}]) | sink(server, ItemFormat("i"), bulk=impatient)
    with pytest.raises(RuntimeError, match="made no progress"):
        p.run().wait_until_finish()
    assert server.documents == {}


def test_an_element_that_is_no_item_and_has_no_format_is_an_error_with_the_cure(server: FakeElasticsearch) -> None:
    p = beam.Pipeline("FnApiRunner", options=PipelineOptions([]))
    p | beam.Create([{"_id": "1"}]) | sink(server)
    with pytest.raises(Exception, match="give WriteToElasticsearch an ItemFormat"):
        p.run().wait_until_finish()


def test_metrics_tell_what_happened(server: FakeElasticsearch) -> None:
    server.documents = {"1": {}}
    server.item_fault = lambda name, _: (400, "bad") if name == "3" else None
    server.answers.append(error(429, "circuit_breaking_exception"))
    p = beam.Pipeline("FnApiRunner", options=PipelineOptions([]))
    p | beam.Create([{"_id": str(n)} for n in range(10)]) | sink(server, ItemFormat("i"))
    result = p.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace("elasticsearch"))
    counters = {metric.key.metric.name: metric.committed for metric in found["counters"]}
    size = counters.pop("bytes")
    assert counters == {"documents": 8, "duplicates": 1, "retries": 1, "rejected_bad": 1}
    assert size == 2 * sum(len(b'{"create":{"_index":"i","_id":"0"}}\n{}\n') for _ in range(10))  # sent twice
    (latency,) = found["distributions"]
    assert latency.committed.count == 2
    assert {metric.key.metric.name for metric in found["gauges"]} == {"in_flight", "concurrency"}


def test_waiting_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_seconds"):
        WriteToElasticsearch(ElasticsearchConfig(urls=("http://h:1",)), batch_seconds=0)
