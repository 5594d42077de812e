"""A backfill while Elasticsearch is in trouble: afterwards documents and dead letters are the records, each once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.run import backfill
from tests.conftest import NotifiedQueue
from tests.integration.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.integration

START = 1_764_000_000
INDEX = "flowlogs-raw-2025.11.24"
OBJECTS = 4
RECORDS = 2500
BAD_ROW, BAD_DOCUMENT = 7, 1234
MB = 1024 * 1024


@pytest.fixture(scope="module")
def server(make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]) -> Iterator[ElasticsearchServer]:
    settings = {
        "http.max_content_length": "2mb",
        "indexing_pressure.memory.limit": "3mb",
        "cluster.info.update.interval": "10s",  # how often the disk is looked at; no less is allowed
    }
    with ElasticsearchServer(make_home(), settings=settings, **elasticsearch_options) as server:
        client = Elasticsearch(server.url)
        set_up(client)
        # A field that AWS has not got, and a number here: one document of each object does not fit.
        numbers = {"aws": {"properties": {"vpcflow": {"properties": {"moon_phase": {"type": "long"}}}}}}
        client.cluster.put_component_template(
            name="flowlogs-raw@custom", template={"mappings": {"properties": numbers}}
        )
        yield server


@pytest.fixture
def client(server: ElasticsearchServer) -> Elasticsearch:
    client = connect(ElasticsearchConfig(urls=(server.url,)))
    for index in list(client.indices.get(index="flowlogs-*", expand_wildcards="all")):
        client.indices.delete(index=index)
    client.indices.create(index=INDEX)
    return client


def _object(number: int) -> bytes:
    def row(at: int) -> str:
        start = START + at % 600
        port = "none" if at == BAD_ROW else 40_000 + number
        moon = "full" if at == BAD_DOCUMENT else at % 4
        return (
            f"2 123456789012 eni-0000000000000000{at % 3} 10.0.{at % 200}.1 10.0.0.2 {port} 443 6 10 840 "
            f"{start} {start + 59} ACCEPT OK {moon}"
        )

    return "\n".join([" ".join([*DEFAULT_FORMAT, "moon-phase"]), *map(row, range(RECORDS))]).encode()


@contextmanager
def _down(server: ElasticsearchServer, _: Elasticsearch) -> Iterator[None]:
    server.stop()
    yield
    time.sleep(2)
    server.start()


@contextmanager
def _killed(server: ElasticsearchServer, client: Elasticsearch) -> Iterator[None]:
    yield
    while not client.indices.stats(index=INDEX, metric="docs")["_all"]["primaries"]["docs"]["count"]:
        time.sleep(0.01)
    server.kill()
    time.sleep(30)
    server.start()


@contextmanager
def _settings(
    names: dict[str, Any], healed: dict[str, Any], _: ElasticsearchServer, client: Elasticsearch
) -> Iterator[None]:
    client.cluster.put_settings(persistent=names)
    try:
        yield
        time.sleep(2)
    finally:
        client.cluster.put_settings(persistent=healed)


WATERMARK = "cluster.routing.allocation.disk.watermark"
STAGES = ("low", "high", "flood_stage")


@contextmanager
def _flooded(server: ElasticsearchServer, client: Elasticsearch) -> Iterator[None]:
    full = {f"{WATERMARK}.{stage}": "1%" for stage in STAGES}
    full["cluster.routing.allocation.disk.threshold_enabled"] = "true"
    room = {f"{WATERMARK}.{stage}": "99%" for stage in STAGES}
    with _settings(full, room, server, client):
        while "blocks" not in client.indices.get_settings(index=INDEX)[INDEX]["settings"]["index"]:
            time.sleep(0.2)
        yield


@contextmanager
def _closed(_: ElasticsearchServer, client: Elasticsearch) -> Iterator[None]:
    client.indices.close(index=INDEX)
    yield
    time.sleep(2)
    client.indices.open(index=INDEX)


@contextmanager
def _blocked(_: ElasticsearchServer, client: Elasticsearch) -> Iterator[None]:
    client.indices.put_settings(index=INDEX, settings={"index.blocks.write": True})
    yield
    time.sleep(2)
    client.indices.put_settings(index=INDEX, settings={"index.blocks.write": None})


def _none(_: ElasticsearchServer, __: Elasticsearch) -> AbstractContextManager[None]:
    return nullcontext()


SMALL = BulkConfig(max_bytes=200_000, first_delay=0.05, longest_delay=0.5)
PRESSING = BulkConfig(max_bytes=1_900_000, concurrency=8, first_delay=0.05)
BREAKER = "indices.breaker.total.limit"


@pytest.mark.parametrize(
    ("trouble", "bulk", "retried"),
    [
        pytest.param(_none, SMALL, False, id="none"),
        pytest.param(_down, SMALL, True, id="down at the start"),
        pytest.param(_killed, SMALL, True, id="killed in mid-bulk and back half a minute later"),
        pytest.param(_none, PRESSING, True, id="indexing pressure"),
        pytest.param(partial(_settings, {BREAKER: "10mb"}, {BREAKER: None}), SMALL, True, id="circuit breaker"),
        pytest.param(_flooded, SMALL, True, id="flood stage"),
        pytest.param(_none, BulkConfig(max_bytes=16 * MB, concurrency=1), False, id="too large, so split"),
        pytest.param(_closed, SMALL, True, id="closed index"),
        pytest.param(_blocked, SMALL, True, id="write block"),
    ],
)
def test_documents_and_dead_letters_are_the_records_after_every_trouble(
    trouble: Callable[[ElasticsearchServer, Elasticsearch], AbstractContextManager[None]],
    bulk: BulkConfig,
    retried: bool,
    server: ElasticsearchServer,
    client: Elasticsearch,
    make_queue: Callable[[], NotifiedQueue],
    tmp_path: Path,
) -> None:
    job = Job(server.url, make_queue().bucket, bulk, tmp_path)
    with trouble(server, client):
        job.start()
    job.assert_exact(client)
    assert (job.summary.retries > 0) is retried


def test_a_proxy_that_cuts_delays_and_answers_garbage_loses_and_doubles_nothing(
    server: ElasticsearchServer, client: Elasticsearch, make_queue: Callable[[], NotifiedQueue], tmp_path: Path
) -> None:
    faults = [
        Fault(cut_after=100),
        Fault(delay=3),
        Fault(garbage=b"\x00\xff not http at all\r\n\r\n", forward=True),
        Fault(status=200, body=b"<html>hello</html>", headers={"content-type": "text/html"}, forward=True),
        Fault(status=503, body=b"no healthy upstream"),
    ]
    with FaultProxy("127.0.0.1", server.port) as proxy:
        for fault in faults:
            proxy.fail(None, fault, when=lambda request: request.path.startswith("/_bulk"))
        job = Job(proxy.url, make_queue().bucket, SMALL, tmp_path, request_timeout=1.0)
        job.start()
        job.assert_exact(client)
        assert proxy.planned == 0
    assert job.summary.retries == len(faults)


class Job:
    """A backfill of OBJECTS objects in the background; of each, one row is bad and one document does not fit."""

    def __init__(self, url: str, bucket: str, bulk: BulkConfig, folder: Path, **connection: Any) -> None:
        s3 = boto3.client("s3")
        for number in range(OBJECTS):
            s3.put_object(Bucket=bucket, Key=f"{number}.log", Body=_object(number))
        elasticsearch = ElasticsearchConfig(urls=(url,), **connection)
        self._config = JobConfig(elasticsearch, str(folder), (bucket,), bulk=bulk)
        self._location = f"s3://{bucket}/"
        self._letters = DeadLetters(str(folder))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.summary = Outcome()

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self.summary = backfill(self._config, [self._location], [])

    def assert_exact(self, client: Elasticsearch) -> None:
        """Wait for the end, and hold index and dead letters against what was put."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        bad = [("document", BAD_DOCUMENT)] * OBJECTS + [("row", BAD_ROW)] * OBJECTS
        assert sorted((reject.stage, reject.row) for _, reject in self._letters.read()) == bad
        assert self.summary.documents + self.summary.duplicates == OBJECTS * (RECORDS - 2)
        client.indices.refresh(index="flowlogs-*")
        assert client.count(index=INDEX)["count"] == client.count(index="flowlogs-raw-*")["count"]
        aggregation = {"rows": {"terms": {"field": "aws.s3.object.key", "size": 100}}}
        buckets = client.search(index=INDEX, size=0, aggs=aggregation)["aggregations"]["rows"]["buckets"]
        assert {bucket["key"]: bucket["doc_count"] for bucket in buckets} == {
            f"{number}.log": RECORDS - 2 for number in range(OBJECTS)
        }
        proof = verify(client, 60)
        assert proof.differences == []
        assert proof.documents == OBJECTS * (RECORDS - 2)
