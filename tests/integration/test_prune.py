"""Whole indices go by the age in their names, on a real Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.elastic.lifecycle import Retention
from beam_flowlogs.elastic.prune import prune
from beam_flowlogs.local.elasticsearch import ElasticsearchServer

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 24, 0, 0, tzinfo=timezone.utc)
FOREIGN = ("flowlogs-raw-2001.02.31", "flowlogs-raw-2001.01.01-mine", "flowlogs-rollup-2001.1", "flowlogs-alerts")


@pytest.fixture
def client(elasticsearch: ElasticsearchServer) -> Iterator[Elasticsearch]:
    client = Elasticsearch(elasticsearch.url)
    _delete_all(client)
    yield client
    _delete_all(client)


def _delete_all(client: Elasticsearch) -> None:
    for index in _indices(client):
        client.indices.delete(index=index)


def _indices(client: Elasticsearch) -> set[str]:
    return set(client.indices.get(index="flowlogs-*", expand_wildcards="all"))


def _create(client: Elasticsearch, *indices: str) -> None:
    for index in indices:
        client.index(index=index, id="1", document={"@timestamp": "2026-11-24T00:00:00Z"}, refresh=True)


def test_a_day_goes_when_its_last_record_is_old_enough_and_not_before(client: Elasticsearch) -> None:
    _create(client, "flowlogs-raw-2026.10.24", "flowlogs-raw-2026.10.25", "flowlogs-raw-2026.11.24")
    gone = prune(client, Retention(raw_days=30), NOW)
    assert [(pruned.name, pruned.documents) for pruned in gone] == [("flowlogs-raw-2026.10.24", 1)]
    assert gone[0].bytes > 0
    assert _indices(client) == {"flowlogs-raw-2026.10.25", "flowlogs-raw-2026.11.24"}


def test_a_month_goes_when_its_last_day_is_old_enough_and_not_before(client: Elasticsearch) -> None:
    _create(client, "flowlogs-rollup-2025.12", "flowlogs-rollup-2026.01", "flowlogs-rollup-2026.02")
    prune(client, Retention(rollup_days=297), NOW)  # the end of January was 296 days ago
    assert _indices(client) == {"flowlogs-rollup-2026.01", "flowlogs-rollup-2026.02"}
    prune(client, Retention(rollup_days=296), NOW)
    assert _indices(client) == {"flowlogs-rollup-2026.02"}


def test_a_dry_run_deletes_nothing_and_a_second_run_finds_nothing(client: Elasticsearch) -> None:
    _create(client, "flowlogs-raw-2020.01.01")
    assert len(prune(client, Retention(), NOW, dry_run=True)) == 1
    assert _indices(client) == {"flowlogs-raw-2020.01.01"}
    assert len(prune(client, Retention(), NOW)) == 1
    assert prune(client, Retention(), NOW) == []


def test_indices_with_other_names_are_not_ours_to_delete(client: Elasticsearch) -> None:
    _create(client, *FOREIGN)
    assert prune(client, Retention(1, 1), NOW) == []
    assert _indices(client) == set(FOREIGN)


def test_a_hidden_index_of_a_day_goes_too(client: Elasticsearch) -> None:
    client.indices.create(index="flowlogs-raw-2020.01.01", settings={"index.hidden": True})
    assert [pruned.name for pruned in prune(client, Retention(), NOW)] == ["flowlogs-raw-2020.01.01"]


def test_the_command_names_what_it_deletes(
    client: Elasticsearch, elasticsearch: ElasticsearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch.url)
    _create(client, "flowlogs-raw-2020.01.01")
    run = CliRunner()
    dry = run.invoke(app, ["prune", "--keep-raw", "90d", "--dry-run"])
    assert dry.output.startswith("flowlogs-raw-2020.01.01: would be deleted, 1 document,")
    done = run.invoke(app, ["prune", "--json"])
    assert [index["name"] for index in json.loads(done.output)] == ["flowlogs-raw-2020.01.01"]
    assert "Nothing is older" in run.invoke(app, ["prune"]).output
    assert run.invoke(app, ["prune", "--keep-rollups", "0d"]).exit_code == 2
