"""WriteToElasticsearch in a pipeline, against a real Elasticsearch behind a proxy that loses answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.bulk_item import ItemFormat
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.reject import Reject
from beam_flowlogs.transforms.write_elasticsearch import WriteToElasticsearch, Written
from tests.integration.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.integration

COUNT = 5000
DAY = 86_400_000
BULK = BulkConfig(max_actions=500, first_delay=0.05, longest_delay=0.2)


def _document(number: int) -> dict[str, Any]:
    wrong = number % 1000 == 7
    return {"_id": str(number), "@timestamp": number % 2 * DAY, "n": "not a number" if wrong else number}


def _reason(reject: Reject) -> str:
    return reject.reason


def test_documents_and_rejects_are_the_input_whatever_the_way_does(elasticsearch: ElasticsearchServer) -> None:
    name = f"sink-{uuid.uuid4().hex[:8]}"
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    for day in ("1970.01.01", "1970.01.02"):
        client.indices.create(index=f"{name}-{day}", mappings={"properties": {"n": {"type": "long"}}})
    item_format = ItemFormat(f"{name}-%Y.%m.%d", time="@timestamp")
    for _ in range(2):  # the second run meets duplicates only
        with FaultProxy("127.0.0.1", elasticsearch.port) as proxy:
            proxy.fail(
                Fault(cut_after=10), None, Fault(status=502, forward=True), Fault(status=429), Fault(cut_after=0)
            )
            config = ElasticsearchConfig(urls=(proxy.url,))
            with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as p:
                documents = p | beam.Create(range(COUNT)) | beam.Map(_document)
                writes = documents | WriteToElasticsearch(config, item_format, bulk=BULK)
                reasons = writes.rejects | "Reasons" >> beam.Map(_reason)
                assert_that(reasons, equal_to(["document_parsing_exception"] * 5))
            assert proxy.planned == 0
        client.indices.refresh(index=f"{name}-*")
        counts = [client.count(index=f"{name}-{day}")["count"] for day in ("1970.01.01", "1970.01.02")]
        assert counts == [COUNT // 2, COUNT // 2 - 5]


def _run(url: str, documents: list[dict[str, Any]], item_format: ItemFormat, expected: Written) -> None:
    with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as p:
        writes = p | beam.Create(documents) | WriteToElasticsearch(ElasticsearchConfig((url,)), item_format, bulk=BULK)
        totals = writes.written | beam.CombineGlobally(_total)
        assert_that(totals, equal_to([expected]))


def _total(parts: Iterable[Written]) -> Written:
    return Written(*(sum(column) for column in zip(Written(0, 0, 0), *parts, strict=True)))


def test_every_shape_of_element_ends_as_a_document_once_and_what_is_none_as_a_reject(
    elasticsearch: ElasticsearchServer,
) -> None:
    index = f"sink-{uuid.uuid4().hex[:8]}"
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    client.indices.create(index=index, mappings={"properties": {"n": {"type": "long"}}})

    def item(number: int, value: str) -> bytes:
        return b'{"create":{"_index":"%b","_id":"%d"}}\n{"n":%b}\n' % (index.encode(), number, value.encode())

    elements = [
        {"id": "0", "n": 0},
        pa.record_batch({"id": ["1", "2"], "n": ["1", "many"]}),
        item(3, "3"),
        item(4, "4") + item(5, '"many"') + item(6, "6"),
        pa.array([item(number, "7") for number in range(7, 2000)], pa.large_binary()),
        {"n": "without an id"},
        b"no body at all",
    ]
    config = ElasticsearchConfig((elasticsearch.url,))
    for expected in (Written(1998, 0, 2), Written(0, 1998, 2)):
        with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as p:
            elements_in = p | beam.Create(elements, reshuffle=False)
            writes = elements_in | WriteToElasticsearch(config, ItemFormat(index, id="id"), bulk=BULK)
            assert_that(writes.written | beam.CombineGlobally(_total), equal_to([expected]), label="written")
            reasons = ["document_parsing_exception"] * 2 + ["not-renderable"] * 2
            assert_that(writes.rejects | beam.Map(_reason), equal_to(reasons), label="rejects")
    client.indices.refresh(index=index)
    # Records in: 1 + 2 + 1 + 3 + 1993, and two that are no documents; two of them Elasticsearch refuses.
    assert client.count(index=index)["count"] == 1 + 2 + 1 + 3 + 1993 - 2


def test_updates_merge_into_what_is_there_or_make_it(elasticsearch: ElasticsearchServer) -> None:
    index = f"sink-{uuid.uuid4().hex[:8]}"
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    updates = ItemFormat(index, operation="update")
    _run(elasticsearch.url, [{"_id": "1", "old": 1}], updates, Written(1, 0, 0))
    _run(elasticsearch.url, [{"_id": "1", "new": 2}, {"_id": "2", "new": 3}], updates, Written(2, 0, 0))
    assert client.get(index=index, id="1")["_source"] == {"old": 1, "new": 2}
    assert client.get(index=index, id="2")["_source"] == {"new": 3}


def test_documents_go_to_their_routing_and_the_newest_version_stays(elasticsearch: ElasticsearchServer) -> None:
    index = f"sink-{uuid.uuid4().hex[:8]}"
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    client.indices.create(index=index, settings={"number_of_shards": 4, "number_of_replicas": 0})
    versions = ItemFormat(index, operation="index", routing="tenant", version="_version")
    document = {"_id": "1", "tenant": "a"}
    _run(elasticsearch.url, [document | {"_version": 5, "n": "new"}], versions, Written(1, 0, 0))
    _run(elasticsearch.url, [document | {"_version": 3, "n": "old"}], versions, Written(0, 1, 0))
    found = client.get(index=index, id="1", routing="a")
    assert (found["_routing"], found["_version"]) == ("a", 5)
    assert found["_source"] == {"tenant": "a", "n": "new"}
