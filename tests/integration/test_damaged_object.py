"""What docs/dead-letters.md says of a damaged object that is uploaded again: take out what is indexed of it before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.generate import GeneratorConfig, S3Sink, generate
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.object_key import SlotRange, parse_key
from beam_flowlogs.run import backfill, drain
from beam_flowlogs.times import TimeRange
from tests.conftest import NotifiedQueue

pytestmark = pytest.mark.integration

START = 1_764_000_000
AROUND, FURTHER = timedelta(minutes=10), timedelta(minutes=20)


def test_a_damaged_object_is_taken_out_and_the_mended_one_counts_once(
    make_queue: Callable[[], NotifiedQueue], cluster: Elasticsearch, elasticsearch: ElasticsearchServer, tmp_path: Path
) -> None:
    bucket, queue_url = make_queue()
    s3 = boto3.client("s3")
    config = JobConfig(ElasticsearchConfig(urls=(elasticsearch.url,)), str(tmp_path), (bucket,))
    with S3Sink(s3, bucket) as sink:
        truth = generate(GeneratorConfig(start=START, records=60_000, slots=6, accounts=1, regions=1), sink)
    key = truth.objects[2]["key"]
    mended = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=mended[: len(mended) // 2])
    assert drain(config, queue_url, []).objects_rejected == 2  # it was announced twice
    indexed = verify(cluster, 60).documents
    others = truth.records - truth.objects[2]["records"]
    assert others < indexed < truth.records
    s3.put_object(Bucket=bucket, Key=key, Body=mended)

    slot = parse_key(key).slot or datetime.min.replace(tzinfo=timezone.utc)
    place = [{"term": {"aws.s3.bucket.name": bucket}}, {"term": {"aws.s3.object.key": key}}]
    taken = cluster.delete_by_query(index="flowlogs-raw-*", query={"bool": {"filter": place}}, refresh=True)
    assert taken["deleted"] == indexed - others
    times = {"gte": (slot - AROUND).isoformat(), "lt": (slot + AROUND).isoformat()}
    cluster.delete_by_query(index="flowlogs-rollup-*", query={"range": {"@timestamp": times}}, refresh=True)
    backfill(config, [f"s3://{bucket}/"], [], SlotRange(TimeRange(slot - FURTHER, slot + FURTHER)))

    proof = verify(cluster, 60)
    assert proof.differences == []
    assert proof.documents == truth.records
