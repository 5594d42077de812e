"""The API keys that docs/elasticsearch.md proposes are enough, and no more than that."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import AuthorizationException, Elasticsearch

from beam_flowlogs.elastic.lifecycle import Retention
from beam_flowlogs.elastic.prune import prune
from beam_flowlogs.elastic.setup import check_set_up, set_up
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from tests.conftest import StartElasticsearch

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "elasticsearch.md"
DAY = "flowlogs-raw-2026.11.24"


def _client(server: ElasticsearchServer, key: Mapping[str, Any], admin: Elasticsearch) -> Elasticsearch:
    made = admin.security.create_api_key(name=key["name"], role_descriptors=key["role_descriptors"])
    return Elasticsearch(server.url, ca_certs=str(server.ca_path), api_key=made["encoded"], request_timeout=60)


def test_the_keys_of_the_docs_are_enough_for_their_commands_and_for_no_more(
    start_elasticsearch: StartElasticsearch,
) -> None:
    blocks = re.findall(r"POST _security/api_key\n(.*?)```", PAGE.read_text(), re.DOTALL)
    keys = {key["name"]: key for key in map(json.loads, blocks)}
    server = start_elasticsearch(security=True)
    login = ("elastic", server.password_file.read_text().strip())
    admin = Elasticsearch(server.url, ca_certs=str(server.ca_path), basic_auth=login, request_timeout=60)
    setup = _client(server, keys["flowlogs-setup"], admin)
    job = _client(server, keys["flowlogs-job"], admin)

    assert {change.what for change in set_up(setup)} == {"created"}
    check_set_up(job)
    operation = {"create": {"_index": DAY, "_id": "1"}}
    written = job.bulk(operations=[operation, {"@timestamp": "2026-11-24T00:00:00Z"}])
    assert [item["create"]["status"] for item in written["items"]] == [201]
    assert verify(job, 60).documents == 1
    with pytest.raises(AuthorizationException):
        setup.search(index=DAY)
    with pytest.raises(AuthorizationException):
        job.indices.delete(index=DAY)
    gone = prune(setup, Retention(), datetime(2027, 11, 24, tzinfo=timezone.utc))
    assert [pruned.name for pruned in gone] == [DAY]
