"""What docs/elasticsearch.md says of snapshots, with a repository on the disk: no S3 one is at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey
from beam_flowlogs.rollup_store import RollUpStore
from tests.conftest import StartElasticsearch

pytestmark = pytest.mark.integration

START = 1_764_000_000
KEYS = [RollUpKey(60, START + 60 * minute, "interface", "eni-kept") for minute in range(20)]
PARTS = {key: [Part("an-object", (1, *[0] * (len(COUNTERS) - 1)), START * 1000, START * 1000, {})] for key in KEYS}


def test_roll_ups_come_back_from_a_snapshot_and_a_job_may_go_on_merging_into_them(
    start_elasticsearch: StartElasticsearch, make_home: Callable[[], Path]
) -> None:
    repository = make_home()
    repository.chmod(0o777)  # under root, Elasticsearch runs as somebody else
    server = start_elasticsearch(settings={"path.repo": str(repository)})
    config = ElasticsearchConfig(urls=(server.url,))
    client = connect(config)
    set_up(client)
    store = RollUpStore(lambda: connect(config), bulk_writer(config, BulkConfig(retry_for=30)), retry_for=30)
    assert store.merge(PARTS).created == len(KEYS)
    before = _documents(client)
    client.snapshot.create_repository(name="kept", repository={"type": "fs", "settings": {"location": str(repository)}})
    taken = client.snapshot.create(
        repository="kept",
        snapshot="1",
        indices=["flowlogs-rollup-*"],
        include_global_state=False,
        wait_for_completion=True,
    )
    assert taken["snapshot"]["state"] == "SUCCESS"
    client.indices.delete(index=KEYS[0].index_name)
    client.snapshot.restore(
        repository="kept",
        snapshot="1",
        indices=KEYS[0].index_name,
        include_global_state=False,
        wait_for_completion=True,
    )
    assert _documents(client) == before
    again = store.merge(PARTS)
    assert (again.created, again.unchanged) == (0, len(KEYS))


def _documents(client: Elasticsearch) -> dict[str, object]:
    index = KEYS[0].index_name
    client.indices.refresh(index=index)
    found = client.search(index=index, size=100)["hits"]["hits"]
    assert len(found) == len(KEYS)
    return {hit["_id"]: hit["_source"] for hit in found}
