"""Several objects under way at once: none waits for the answers of the one before it, and none is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam import pvalue
from apache_beam.utils.timestamp import Timestamp

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.s3_object import ObjectRef
from beam_flowlogs.transforms import process_objects as module
from beam_flowlogs.transforms.announce import encode_ref
from beam_flowlogs.transforms.progress import Progress
from tests.fake_elasticsearch import FakeElasticsearch
from tests.test_s3_object import FakeS3, s3_error

ROW = b"2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
CONTENT = b"\n".join([" ".join(DEFAULT_FORMAT).encode(), ROW, ROW, b""])


@pytest.fixture
def server() -> Iterator[FakeElasticsearch]:
    with FakeElasticsearch() as fake:
        yield fake


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3(CONTENT)
    monkeypatch.setattr(module, "s3_client", lambda: fake)
    return fake


MakeFn = Callable[..., module._IndexFn]


@pytest.fixture
def make_fn(server: FakeElasticsearch, s3: FakeS3, tmp_path: Path) -> MakeFn:
    def make(**limits: Any) -> module._IndexFn:
        bulk = BulkConfig(**({"first_delay": 0.01, "longest_delay": 0.02, "retry_for": 20} | limits))
        config = JobConfig(ElasticsearchConfig(urls=(server.url,)), str(tmp_path), ("logs",), bulk=bulk, retry_for=0)
        fn = module._IndexFn(config)
        fn.start_bundle()
        return fn

    return make


def process(fn: module._IndexFn, key: str) -> list[Any]:
    return list(fn.process((f"token of {key}", encode_ref(ObjectRef("logs", key))), Timestamp(7)))


def told(outputs: list[Any]) -> list[tuple[str, Progress]]:
    """Of progress: message token and what is told; all of it has its element's timestamp."""
    found = [output.value for output in outputs if isinstance(output, pvalue.TaggedOutput)]
    assert {value.timestamp for value in found} <= {Timestamp(7)}
    return [(value.value[0], Progress.decode(value.value[1])) for value in found]


def hold(server: FakeElasticsearch, key: str, until: Callable[[], bool]) -> None:
    """Turn the documents of an object away until something is so."""
    server.item_fault = lambda _, document: (
        (429, "busy") if document["aws"]["s3"]["object"]["key"] == key and not until() else None
    )


def test_an_object_is_sent_while_the_one_before_it_waits_for_its_answer(
    server: FakeElasticsearch, make_fn: MakeFn
) -> None:
    hold(server, "a.log", until=lambda: len(server.documents) >= 2)
    fn = make_fn()
    assert process(fn, "a.log") == process(fn, "b.log") == []
    outputs = list(fn.finish_bundle())
    assert len(server.documents) == 4
    progress = Progress(indexed=1, parts=1)
    assert told(outputs) == [("token of a.log", progress), ("token of b.log", progress)]
    parts = [output for output in outputs if not isinstance(output, pvalue.TaggedOutput)]
    assert [part.timestamp for part in parts] == [Timestamp(1764000000)] * 2


def test_the_time_from_the_newest_record_to_its_durable_document_is_told(
    make_fn: MakeFn, monkeypatch: pytest.MonkeyPatch
) -> None:
    lags: list[int] = []
    fn = make_fn()
    monkeypatch.setattr(fn._lag, "update", lags.append)
    process(fn, "a.log")
    assert lags == []
    list(fn.finish_bundle())
    now = time.time()
    assert lags == [pytest.approx((now - 1764000059) * 1000, abs=5000)]


def test_no_more_objects_are_under_way_than_bodies_may_be(server: FakeElasticsearch, make_fn: MakeFn) -> None:
    fn = make_fn(concurrency=2)
    progress = [told(process(fn, f"{name}.log")) for name in "abcd"]
    assert [[token for token, _ in found] for found in progress] == [[], [], ["token of a.log"], ["token of b.log"]]
    assert [token for token, _ in told(list(fn.finish_bundle()))] == ["token of c.log", "token of d.log"]


def test_a_bundle_that_fails_leaves_nothing_that_is_sent_for_ever(
    server: FakeElasticsearch, s3: FakeS3, make_fn: MakeFn
) -> None:
    hold(server, "a.log", until=lambda: False)
    fn = make_fn(retry_for=None)
    process(fn, "a.log")
    while not server.bodies:
        time.sleep(0.01)
    s3.troubles = [s3_error("ServiceUnavailable", 503)] * 9
    with pytest.raises(Exception, match="ServiceUnavailable"):
        process(fn, "b.log")
    time.sleep(0.1)
    sent = len(server.bodies)
    time.sleep(0.3)
    assert len(server.bodies) == sent
    assert list(fn.finish_bundle()) == []
