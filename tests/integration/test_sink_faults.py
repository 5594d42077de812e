"""A real Elasticsearch in trouble: the sink waits, loses nothing, doubles nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkGaveUp
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from tests.integration.sink_input import assert_exact, ids_in, items, make_index, sending, writer

pytestmark = pytest.mark.integration

COUNT = 8000
MB = 1024 * 1024


@pytest.fixture(scope="module")
def server(make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]) -> Iterator[ElasticsearchServer]:
    """A server with narrow limits; tests may stop it and set it, and put it right again."""
    settings = {
        "http.max_content_length": "2mb",
        "indexing_pressure.memory.limit": "3mb",
        "cluster.info.update.interval": "10s",  # how often the disk is looked at; no less is allowed
    }
    with ElasticsearchServer(make_home(), settings=settings, **elasticsearch_options) as server:
        yield server


@pytest.fixture
def config(server: ElasticsearchServer) -> ElasticsearchConfig:
    return ElasticsearchConfig(urls=(server.url,))


@pytest.fixture
def client(config: ElasticsearchConfig) -> Elasticsearch:
    return connect(config)


@pytest.fixture
def index(client: Elasticsearch) -> str:
    return make_index(client)


@contextmanager
def cluster_settings(client: Elasticsearch, settings: dict[str, Any]) -> Iterator[None]:
    client.cluster.put_settings(persistent=settings)
    try:
        yield
    finally:
        client.cluster.put_settings(persistent=dict.fromkeys(settings))


def test_a_server_that_is_down_at_the_start_is_awaited_or_given_up_as_configured(
    server: ElasticsearchServer, config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    server.stop()
    with pytest.raises(BulkGaveUp, match=r"Connection refused.*Check that Elasticsearch is up"):
        writer(config, retry_for=0.3).write(items(index, 10))
    with sending(writer(config), items(index, COUNT)) as future:
        time.sleep(1)
        assert not future.done()
        server.start()
        result = future.result(60)
    assert result.retries > 0
    assert_exact(client, index, COUNT, result)


def test_a_server_killed_in_mid_bulk_and_back_later_has_everything_once(
    server: ElasticsearchServer, config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    with sending(writer(config, max_actions=200), items(index, COUNT)) as future:
        while not ids_in(client, index):
            assert not future.done()
        server.kill()
        assert not future.done()
        server.start()
        result = future.result(60)
    assert result.retries > 0
    assert_exact(client, index, COUNT, result)


def test_indexing_pressure_slows_three_workers_down_and_loses_nothing(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    data = items(index, COUNT, size=1000)
    sinks = [writer(config, max_bytes=MB, max_actions=10_000, concurrency=4) for _ in range(3)]  # three workers
    part = COUNT // 3 + 1
    with (
        sending(sinks[0], data.slice(0, part)) as first,
        sending(sinks[1], data.slice(part, part)) as second,
        sending(sinks[2], data.slice(2 * part)) as third,
    ):
        results = [first.result(120), second.result(120), third.result(120)]
    assert sum(result.retries for result in results) > 0
    assert sum(result.written + result.duplicates for result in results) == COUNT
    assert ids_in(client, index) == [str(n) for n in range(COUNT)]


def test_a_body_larger_than_the_server_takes_is_split_and_a_larger_item_rejected(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    data = items(index, 400, size=10_000).to_pylist()
    data[100] = items(index, 1, first=100, size=3 * MB)[0].as_py()
    sink = writer(config, max_bytes=16 * MB, max_actions=10_000)
    result = sink.write(pa.array(data))
    assert [(item.position, item.reason) for item in result.rejected] == [(100, "content_too_large")]
    assert_exact(client, index, 400, result)


def test_the_circuit_breaker_is_waited_out(config: ElasticsearchConfig, client: Elasticsearch, index: str) -> None:
    sink = writer(config)
    with cluster_settings(client, {"indices.breaker.total.limit": "10mb"}):
        with pytest.raises(BulkGaveUp, match=r"429 circuit_breaking_exception.*Data too large"):
            writer(config, retry_for=0.2).write(items(index, 10))
        with sending(sink, items(index, COUNT)) as future:
            time.sleep(1)
            assert not future.done()
            client.options(max_retries=0).cluster.put_settings(persistent={"indices.breaker.total.limit": None})
            result = future.result(60)
    assert result.retries > 0
    assert_exact(client, index, COUNT, result)


def test_a_disk_past_its_flood_stage_is_waited_out_until_it_has_room(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    watermark = "cluster.routing.allocation.disk.watermark"
    full = {
        "cluster.routing.allocation.disk.threshold_enabled": True,
        f"{watermark}.low": "1%",
        f"{watermark}.high": "1%",
        f"{watermark}.flood_stage": "1%",
    }
    with cluster_settings(client, full):
        deadline = time.monotonic() + 60
        while "blocks" not in client.indices.get_settings(index=index)[index]["settings"]["index"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.raises(BulkGaveUp, match=r"429 cluster_block_exception.*flood-stage"):
            writer(config, retry_for=0.2).write(items(index, 10))
        with sending(writer(config), items(index, COUNT)) as future:
            time.sleep(0.5)
            assert not future.done()
            client.cluster.put_settings(
                persistent={f"{watermark}.{stage}": "99%" for stage in ("low", "high", "flood_stage")}
            )
            result = future.result(60)
    assert result.retries > 0
    assert_exact(client, index, COUNT, result)


def test_a_cluster_that_may_hold_no_more_shards_is_waited_out(
    config: ElasticsearchConfig, client: Elasticsearch
) -> None:
    index = f"sink-{uuid.uuid4().hex[:8]}"
    few = {"cluster.max_shards_per_node": 1}
    with cluster_settings(client, few), sending(writer(config), items(index, 500)) as future:
        time.sleep(1)
        assert not future.done()
        client.cluster.put_settings(persistent={"cluster.max_shards_per_node": None})
        result = future.result(60)
    assert_exact(client, index, 500, result)


NO_AUTO_CREATE = {"action.auto_create_index": "false"}


def test_an_index_that_may_not_be_created_is_waited_for_and_named_with_the_cure(
    config: ElasticsearchConfig, client: Elasticsearch
) -> None:
    index = f"sink-{uuid.uuid4().hex[:8]}"
    with cluster_settings(client, NO_AUTO_CREATE):
        with pytest.raises(BulkGaveUp, match=rf"404 index_not_found_exception: .*{index}.*needs allow_auto_create"):
            writer(config, retry_for=0.2).write(items(index, 10))
        with sending(writer(config), items(index, 500)) as future:
            time.sleep(1)
            assert not future.done()
            client.indices.create(index=index)
            result = future.result(60)
    assert result.retries > 0
    assert_exact(client, index, 500, result)


def test_the_days_index_is_created_even_where_the_cluster_creates_none(
    config: ElasticsearchConfig, client: Elasticsearch
) -> None:
    set_up(client)
    with cluster_settings(client, NO_AUTO_CREATE):
        item = b'{"create":{"_index":"flowlogs-raw-2026.11.24","_id":"1"}}\n{"@timestamp":0}\n'
        result = writer(config, retry_for=10).write(pa.array([item]))
    assert (result.written, result.retries) == (1, 0)
    assert client.indices.get_settings(index="flowlogs-raw-2026.11.24")
