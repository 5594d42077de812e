"""`flowlogs verify` and `summary` on a real Elasticsearch: what is missing, what differs, and for which windows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.generate import GeneratorConfig, S3Sink, generate
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.run import backfill
from tests.conftest import NotifiedQueue
from tests.integration.conftest import delete_indices

pytestmark = pytest.mark.integration

START = 1_764_000_000  # 16:00:00 UTC, and the beginning of an hour


@pytest.fixture(scope="module")
def cluster(elasticsearch: ElasticsearchServer) -> Any:
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    delete_indices(client)
    set_up(client)
    yield client
    delete_indices(client)


def _run(elasticsearch: ElasticsearchServer, *arguments: str) -> Any:
    return CliRunner(env={"ELASTICSEARCH_URL": elasticsearch.url, "COLUMNS": "40"}).invoke(app, list(arguments))


def test_before_anything_is_indexed_there_is_nothing_to_verify(
    cluster: Elasticsearch, elasticsearch: ElasticsearchServer
) -> None:
    for arguments in ([], ["--since", "now-1h/m"]):
        assert _run(elasticsearch, "verify", *arguments).exit_code == 5


@pytest.fixture
def indexed(
    cluster: Elasticsearch,
    elasticsearch: ElasticsearchServer,
    make_queue: Callable[[], NotifiedQueue],
    tmp_path: Path,
) -> Elasticsearch:
    """Flow logs of 30 minutes across the turn of an hour, in roll-ups of minutes and hours."""
    delete_indices(cluster)
    bucket = make_queue().bucket
    with S3Sink(boto3.client("s3"), bucket) as sink:
        generate(GeneratorConfig(start=START - 900, records=3000, slots=6, incidents=()), sink)
    config = JobConfig(
        ElasticsearchConfig(urls=(elasticsearch.url,)), str(tmp_path), (bucket,), windows=(60, 3600), retry_for=60
    )
    assert not backfill(config, [f"s3://{bucket}/"], []).has_rejects
    return cluster


def test_every_length_of_windows_is_proved_and_what_is_wrong_is_told_by_kind(
    indexed: Elasticsearch, elasticsearch: ElasticsearchServer
) -> None:
    whole = _run(elasticsearch, "verify")
    assert whole.exit_code == 0, whole.output
    minutes, hours = whole.stdout.splitlines()
    assert minutes.startswith("Windows of 60 s: ")
    assert hours.startswith("Windows of 3600 s: ")
    assert minutes.endswith("over 3,000 raw documents, exactly")

    hour = indexed.search(index="flowlogs-rollup-*", query={"term": {"flowlogs.rollup.window": "3600s"}}, size=3)
    missing, wrong, alone = (hit for hit in hour["hits"]["hits"])
    indexed.delete(index=missing["_index"], id=missing["_id"])
    wrong["_source"]["flowlogs"]["rollup"]["bytes"] += 1
    indexed.index(index=wrong["_index"], id=wrong["_id"], document=wrong["_source"])
    alone["_source"]["flowlogs"]["rollup"]["key"] = "eni-nobody"
    indexed.index(index=alone["_index"], id="alone", document=alone["_source"])

    broken = _run(elasticsearch, "verify", "--json")
    assert broken.exit_code == 1
    told_minutes, told_hours = json.loads(broken.stdout)
    assert told_minutes["differences"] == []
    counts = {name: told_hours[name] for name in ("missing", "unfounded", "different")}
    assert counts == {"missing": 1, "unfounded": 1, "different": 1}
    assert _run(elasticsearch, "verify", "--rollup-window", "60s").exit_code == 0


def test_only_windows_that_lie_in_the_range_as_a_whole_are_compared(
    indexed: Elasticsearch, elasticsearch: ElasticsearchServer
) -> None:
    result = _run(
        elasticsearch, "verify", "--since", "2025-11-24T15:52:30Z", "--until", "2025-11-24T16:05:30Z", "--json"
    )
    assert result.exit_code == 0, result.output
    minutes, hours = json.loads(result.stdout)
    assert 0 < minutes["documents"] < 3000
    assert hours["rollups"] == hours["documents"] == 0
    assert _run(elasticsearch, "verify", "--since", "now-1h/m").exit_code == 5


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_what_is_no_time_is_one_line_with_an_example(
    indexed: Elasticsearch, elasticsearch: ElasticsearchServer, option: str
) -> None:
    result = _run(elasticsearch, "verify", option, "yesterday")
    assert result.exit_code == 2
    assert "yesterday" in result.stderr
    assert "now-1h/m" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_summary_prints_queries_that_a_shell_takes(
    indexed: Elasticsearch, elasticsearch: ElasticsearchServer
) -> None:
    result = _run(elasticsearch, "summary")
    assert result.exit_code == 0
    queries = [line for line in result.stdout.splitlines() if line.strip().startswith("curl ")]
    assert len(queries) == 3
    assert all(line.endswith("pretty'") for line in queries)
