"""`flowlogs backfill --since --until` on real servers: the records of a time, and no listing of the years around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.generate import GeneratorConfig, KeyLayout, S3Sink, generate
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.s3_object import list_objects
from beam_flowlogs.times import TimeRange
from tests.conftest import NotifiedQueue

pytestmark = pytest.mark.integration

START = 1_764_028_200  # 23:50 UTC: the slots go on into the next day
MIDNIGHT = datetime(2025, 11, 25, tzinfo=timezone.utc)
BOUNDS = ["--since", "2025-11-24T23:55:00Z", "--until", "2025-11-25T00:10"]


@pytest.mark.parametrize("keys", KeyLayout)
def test_a_range_brings_the_records_that_ended_in_it_and_the_rest_comes_later(
    keys: KeyLayout,
    cluster: Elasticsearch,
    elasticsearch: ElasticsearchServer,
    make_queue: Callable[[], NotifiedQueue],
    tmp_path: Path,
) -> None:
    bucket = make_queue().bucket
    s3 = boto3.client("s3")
    with S3Sink(s3, bucket) as sink:
        truth = generate(GeneratorConfig(start=START, records=3000, slots=8, keys=keys, prefix="team a"), sink)
    s3.put_object(Bucket=bucket, Key="notes.txt", Body=b"no log")
    program = CliRunner(env={"ELASTICSEARCH_URL": elasticsearch.url, "COLUMNS": "200"})
    backfill = ["backfill", f"s3://{bucket}/", "--dead-letter", str(tmp_path), "--json"]

    first = program.invoke(app, [*backfill, *BOUNDS])

    assert first.exit_code == 0, first.output
    done = json.loads(first.stdout)
    assert (done["objects"], done["undated_skipped"]) == (len(truth.objects) * 3 // 8, 1)
    assert "skipped 1 object whose key tells no time" in first.stderr
    since, until = (MIDNIGHT + timedelta(minutes=minutes) for minutes in (-5, 10))
    cluster.indices.refresh(index="flowlogs-*")
    ends = cluster.search(
        index="flowlogs-raw-*", size=0,
        aggs={"first": {"min": {"field": "@timestamp"}}, "last": {"max": {"field": "@timestamp"}}},
    )["aggregations"]  # fmt: skip
    assert since.timestamp() <= ends["first"]["value"] / 1000 <= ends["last"]["value"] / 1000 < until.timestamp()
    of_it = [window for window in truth.rollups if since.timestamp() <= window["window_start"] < until.timestamp()]
    records = sum(window["flows"] + window["nodata"] + window["skipdata"] for window in of_it)
    assert done["documents"] == cluster.count(index="flowlogs-raw-*")["count"] == records
    assert program.invoke(app, ["verify", *BOUNDS]).exit_code == 0

    s3.delete_object(Bucket=bucket, Key="notes.txt")
    assert json.loads(program.invoke(app, backfill).stdout)["documents"] == truth.records - done["documents"]
    assert verify(cluster, 60).differences == []


def test_nothing_of_that_time_is_said_in_a_line(
    cluster: Elasticsearch, elasticsearch: ElasticsearchServer, make_queue: Callable[[], NotifiedQueue], tmp_path: Path
) -> None:
    bucket = make_queue().bucket
    with S3Sink(boto3.client("s3"), bucket) as sink:
        generate(GeneratorConfig(start=START, records=100, slots=1), sink)
    program = CliRunner(env={"ELASTICSEARCH_URL": elasticsearch.url, "COLUMNS": "200"})

    result = program.invoke(app, ["backfill", f"s3://{bucket}/", "--dead-letter", str(tmp_path), "--since", "2d"])

    assert result.exit_code == 0
    assert result.stdout == f"There are no objects below s3://{bucket}/ that are of that time\n"


@pytest.mark.parametrize("layout", ["%Y/%m/%d/", "%Y/%m/%d/%H/", "year=%Y/month=%m/day=%d/"])
def test_a_day_out_of_years_costs_a_handful_of_listings(layout: str, make_queue: Callable[[], NotifiedQueue]) -> None:
    bucket = make_queue().bucket
    s3 = boto3.client("s3")
    region = "p/AWSLogs/123456789012/vpcflowlogs/eu-west-1/"
    if "=" in layout:
        region = "p/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/"
    first = datetime(2023, 1, 1, tzinfo=timezone.utc)
    days = [first + timedelta(days=at) for at in range(730)]
    for day in days:
        name = f"123456789012_vpcflowlogs_eu-west-1_fl-0a1b_{day:%Y%m%dT%H%MZ}_2f1c7a8b.log.gz"
        s3.put_object(Bucket=bucket, Key=f"{region}{day.strftime(layout)}{name}", Body=b"")
    pages = []

    def small_page(params: dict[str, Any], **_: Any) -> None:
        pages.append(params)
        params["MaxKeys"] = 10

    s3.meta.events.register("provide-client-params.s3.ListObjectsV2", small_page)
    slots = SlotRange(TimeRange(days[500], days[502]))

    found = [ref.key for ref in list_objects(s3, bucket, "", next_key=slots.next_key) if slots.holds(ref.key)]

    assert [day.strftime(layout) in key for day, key in zip(days[500:502], found)] == [True, True]
    assert len(found) == 2
    assert len(pages) <= 4
