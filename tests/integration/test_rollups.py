"""Roll-ups on a real Elasticsearch: created, merged, and right when two write at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.rollup import COUNTERS, PARTS_VERSION, Part, RollUpKey, parts_of
from beam_flowlogs.rollup_store import Merged, RollUpStore
from beam_flowlogs.secret import SecretUnavailable

pytestmark = pytest.mark.integration

START = 1_764_000_000
KEYS = [RollUpKey(60, START + 60 * minute, "interface", "eni-store") for minute in range(5)]


@pytest.fixture
def config(elasticsearch: ElasticsearchServer) -> Iterator[ElasticsearchConfig]:
    config = ElasticsearchConfig(urls=(elasticsearch.url,))
    client = connect(config)
    client.options(ignore_status=404).indices.delete(index=KEYS[0].index_name)
    set_up(client)
    yield config
    client.options(ignore_status=404).indices.delete(index=KEYS[0].index_name)


def store(config: ElasticsearchConfig) -> RollUpStore:
    return RollUpStore(lambda: connect(config), bulk_writer(config, BulkConfig(retry_for=30)), retry_for=30)


def part(object_id: str, flows: int = 1) -> Part:
    return Part(object_id, (flows, *[0] * (len(COUNTERS) - 1)), START * 1000, START * 1000, {})


def read(client: Elasticsearch, key: RollUpKey) -> dict[str, Any]:
    found = client.get(index=key.index_name, id=key.id)
    return dict(found["_source"]["flowlogs"]["rollup"], _version=found["_version"])


def test_parts_are_created_merged_and_left_alone(config: ElasticsearchConfig) -> None:
    rollups = store(config)

    first = rollups.merge({key: [part("a")] for key in KEYS})
    second = rollups.merge({KEYS[0]: [part("a"), part("b")], KEYS[1]: [part("a")]})

    assert first[:5] == (5, 0, 0, 0, [])
    assert second[:5] == (0, 1, 1, 0, [])
    assert [second.rollups[key].seen()["flows"] for key in KEYS[:2]] == [2, 1]
    client = connect(config)
    assert [(read(client, key)["flows"], read(client, key)["_version"]) for key in KEYS[:3]] == [(2, 2), (1, 1), (1, 1)]


def test_writers_at_the_same_time_lose_no_part(config: ElasticsearchConfig) -> None:
    writers, objects = 3, 12
    gate = threading.Barrier(writers)
    results: list[Merged] = []

    def write(writer: int) -> None:
        rollups = store(config)
        gate.wait()
        found = [{key: [part(f"object-{writer}-{number}")] for key in KEYS} for number in range(objects)]
        results.extend(map(rollups.merge, found))

    threads = [threading.Thread(target=write, args=[writer]) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    client = connect(config)
    assert [read(client, key)["flows"] for key in KEYS] == [writers * objects] * len(KEYS)
    assert sum(result.created for result in results) == len(KEYS)
    assert sum(result.overtaken for result in results) > 0, "the writers never met: this test shows nothing"


def test_a_roll_up_that_was_deleted_is_created_anew(config: ElasticsearchConfig) -> None:
    rollups = store(config)
    rollups.merge({KEYS[0]: [part("a")]})
    connect(config).delete(index=KEYS[0].index_name, id=KEYS[0].id)

    assert rollups.merge({KEYS[0]: [part("b")]}).created == 1
    assert read(connect(config), KEYS[0])["objects"] == 1


def test_a_roll_up_of_a_later_release_is_left_alone_and_the_parts_are_kept_for_it(config: ElasticsearchConfig) -> None:
    client = connect(config)
    store(config).merge({KEYS[0]: [part("a")]})
    later = {"flowlogs": {"rollup": {"version": PARTS_VERSION + 1}}}
    client.update(index=KEYS[0].index_name, id=KEYS[0].id, doc=later)

    result = store(config).merge({KEYS[0]: [part("b")], KEYS[1]: [part("b")]})

    assert result.created == 1
    ((key, item),) = result.rejected
    assert (key, item.reason) == (KEYS[0], "newer-version")
    assert parts_of(json.loads(item.data.split(b"\n")[1])) == (KEYS[0], [part("b")._replace(counters=ANY)])
    assert read(client, KEYS[0])["objects"] == 1


def test_a_roll_up_that_can_never_be_indexed_is_named_and_holds_up_nobody(config: ElasticsearchConfig) -> None:
    too_big = Part("a", (2**63, *[0] * (len(COUNTERS) - 1)), START * 1000, START * 1000, {})

    result = store(config).merge({KEYS[0]: [too_big], KEYS[1]: [part("a")]})

    assert result.created == 1
    assert [(key, item.status) for key, item in result.rejected] == [(KEYS[0], 400)]


def test_a_roll_up_that_cannot_be_read_now_is_awaited_and_keeps_its_parts(config: ElasticsearchConfig) -> None:
    client = connect(config)
    index = KEYS[0].index_name
    store(config).merge({KEYS[0]: [part("a")]})
    impatient = RollUpStore(lambda: connect(config), bulk_writer(config, BulkConfig(retry_for=30)), retry_for=0.1)
    client.indices.close(index=index)
    try:
        with pytest.raises(RuntimeError, match=rf"{index}.*POST <index>/_open"):
            impatient._read([KEYS[0]])
        results: list[Merged] = []
        merging = threading.Thread(target=lambda: results.append(store(config).merge({KEYS[0]: [part("b")]})))
        merging.start()
        merging.join(1)
        assert merging.is_alive()
    finally:
        client.indices.open(index=index)
    merging.join(60)

    assert [result[:5] for result in results] == [(0, 1, 0, 0, [])]
    assert read(client, KEYS[0])["flows"] == 2


def test_a_secret_that_is_not_there_yet_is_awaited_in_reading_too(config: ElasticsearchConfig) -> None:
    store(config).merge({KEYS[0]: [part("a")]})
    asked: list[None] = []

    def late() -> Elasticsearch:
        asked.append(None)
        if len(asked) < 3:
            raise SecretUnavailable("the secret env:X is empty")
        return connect(config)

    rollups = RollUpStore(late, bulk_writer(config, BulkConfig(retry_for=30)), retry_for=30)
    assert rollups.merge({KEYS[0]: [part("b")]}).updated == 1
    assert len(asked) == 3


def test_a_sum_that_elasticsearch_cannot_hold_is_a_reject_of_its_own(config: ElasticsearchConfig) -> None:
    merged = store(config).merge({KEYS[0]: [part("a", 1 << 63), part("b", 1 << 63)], KEYS[1]: [part("a")]})

    assert merged.created == 1
    ((key, item),) = merged.rejected
    assert key == KEYS[0]
    assert item.status == 400
