"""The whole way on real servers: S3 notifies SQS, the pipeline indexes, Elasticsearch tells the truth."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic import verify as verify_module
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer
from beam_flowlogs.elastic.verify import rollups, verify
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.generate import ALL_INCIDENTS, GeneratorConfig, S3Sink, Truth, generate
from beam_flowlogs.index_object import index_object
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.rollup import COUNTERS
from beam_flowlogs.run import backfill, drain
from beam_flowlogs.s3_object import list_objects
from tests.conftest import NotifiedQueue

pytestmark = pytest.mark.integration

START = 1_764_000_000
HEADER = " ".join(DEFAULT_FORMAT).encode()
GOOD = b"2 123456789012 eni-00000000000000001 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
OTHER = b"2 123456789012 eni-00000000000000001 10.0.0.1 10.0.0.2 40001 443 6 1 60 1764000000 1764000059 REJECT OK"


class Way:
    """A bucket, its queue, and the pipeline between them and Elasticsearch."""

    def __init__(self, queue: NotifiedQueue, client: Elasticsearch, url: str, folder: Path) -> None:
        self.bucket, self.queue_url = queue
        self.client = client
        self.dead_letters = DeadLetters(str(folder))
        self.s3 = boto3.client("s3")
        self.sqs = boto3.client("sqs")
        self.config = JobConfig(ElasticsearchConfig(urls=(url,)), str(folder), (self.bucket,), retry_for=60)

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def drain(self, **options: Any) -> Outcome:
        return drain(self.config, self.queue_url, [], **options)

    def documents(self) -> list[dict[str, Any]]:
        self.client.indices.refresh(index="flowlogs-*")
        answer = self.client.search(index="flowlogs-raw-*", size=1000, ignore_unavailable=True)
        return [hit["_source"] for hit in answer["hits"]["hits"]]

    def rejects(self) -> list[tuple[str, str, int]]:
        return sorted((reject.stage, reject.reason, reject.row) for _, reject in self.dead_letters.read())

    def queue_is_empty(self) -> bool:
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])["Attributes"]
        waiting, in_flight = found["ApproximateNumberOfMessages"], found["ApproximateNumberOfMessagesNotVisible"]
        return int(waiting) == int(in_flight) == 0


@pytest.fixture
def way(
    make_queue: Callable[[], NotifiedQueue], cluster: Elasticsearch, elasticsearch: ElasticsearchServer, tmp_path: Path
) -> Way:
    return Way(make_queue(), cluster, elasticsearch.url, tmp_path / "dead-letters")


def _generate(way: Way, **arguments: Any) -> Truth:
    config = GeneratorConfig(start=START, incidents=ALL_INCIDENTS, **arguments)
    with S3Sink(way.s3, way.bucket) as sink:
        return generate(config, sink)


def _assert_true(way: Way, truth: Truth) -> None:
    """Roll-ups equal the sums over raw documents, and both the truth."""
    proof = verify(way.client, 60)
    assert proof.differences == []
    assert proof.documents == truth.records
    told = [name for name in COUNTERS if not name.startswith(("protocol.", "tcp."))]
    found = {
        (key.key_type, key.key, key.start): {name: counts[name] for name in told}
        for key, counts in rollups(way.client, 60)
    }
    expected = {
        (entry["key_type"], entry["key"], entry["window_start"]): {name: _at(entry, name) for name in told}
        for entry in truth.rollups
    }
    assert found == expected


def _at(entry: dict[str, Any], path: str) -> int:
    value: Any = entry
    for name in path.split("."):
        value = value[name]
    return int(value)


def test_raw_documents_and_roll_ups_equal_the_truth_and_a_second_run_changes_nothing(way: Way) -> None:
    truth = _generate(way, records=30_000, slots=6)

    first = way.drain()

    assert first.documents == truth.records
    assert first.rejects == 0
    assert first.messages_deleted == first.messages_received == len(truth.objects)
    assert way.queue_is_empty()
    _assert_true(way, truth)
    before = {hit["_id"]: hit["_version"] for hit in _rollup_hits(way)}

    again = backfill(way.config, [f"s3://{way.bucket}/"], [])

    assert (again.documents, again.duplicates) == (0, truth.records)
    assert (again.rollups_created, again.rollups_updated) == (0, 0)
    assert again.rollups_unchanged == len(truth.rollups)
    assert {hit["_id"]: hit["_version"] for hit in _rollup_hits(way)} == before
    _assert_true(way, truth)


def _rollup_hits(way: Way) -> list[dict[str, Any]]:
    way.client.indices.refresh(index="flowlogs-*")
    answer = way.client.search(index="flowlogs-rollup-*", size=10_000, version=True, source=False)
    return list(answer["hits"]["hits"])


def test_an_object_announced_three_times_counts_once(way: Way) -> None:
    for _ in range(3):
        way.put("a.log.gz", gzip.compress(b"\n".join([HEADER, GOOD])))

    summary = way.drain()

    assert summary.messages_deleted == 3
    assert len(way.documents()) == 1
    assert verify(way.client, 60).differences == []


def test_a_drain_of_several_rounds_reads_everything(way: Way) -> None:
    for number in range(25):
        way.put(f"{number}.log", b"\n".join([HEADER, GOOD]))

    summary = way.drain(limit=10)

    assert summary.messages_deleted == 25
    assert len(way.documents()) == 25
    assert way.queue_is_empty()


@pytest.mark.parametrize(
    ("body", "documents", "rejects"),
    [
        pytest.param(
            gzip.compress(b"\n".join([HEADER, GOOD, b""]))[:-4], 1, [("object", "gzip-truncated", -1)], id="truncated"
        ),
        pytest.param(b"\n".join([HEADER, GOOD, OTHER]), 2, [], id="not gzip, but text"),
        pytest.param(b"", 0, [], id="empty"),
        pytest.param(gzip.compress(HEADER + b"\n"), 0, [], id="header only"),
        pytest.param(gzip.compress(GOOD + b"\n"), 0, [("object", "header-missing", -1)], id="no header"),
        pytest.param(
            b"\n".join([HEADER, GOOD, b"2 3 4", OTHER]), 2, [("row", "wrong-number-of-values", 1)], id="short row"
        ),
        pytest.param(
            b"\n".join([HEADER, GOOD.replace(b" 443 ", b" https "), OTHER]),
            1,
            [("row", "not-a-number", 0)],
            id="letters",
        ),
        pytest.param(bytes(range(256)) * 4096, 0, [("object", "not-a-flow-log", -1)], id="binary blob"),
    ],
)
def test_bad_content_is_set_aside_and_everything_else_goes_through(
    way: Way, body: bytes, documents: int, rejects: list[tuple[str, str, int]]
) -> None:
    way.put("AWSLogs/bad.log.gz", body)
    way.put("AWSLogs/good.log", b"\n".join([HEADER, GOOD]))

    summary = way.drain()

    assert len(way.documents()) == documents + 1
    assert way.rejects() == rejects
    for _, reject in way.dead_letters.read():
        assert f"s3://{way.bucket}/AWSLogs/bad.log.gz" in reject.detail
    assert summary.messages_deleted == 2
    assert way.queue_is_empty()
    assert verify(way.client, 60).differences == []


def test_dead_letters_below_the_watched_bucket_do_not_announce_themselves_for_ever(way: Way) -> None:
    way.config = replace(way.config, dead_letters=f"s3://{way.bucket}/logs/dead")
    way.dead_letters = DeadLetters(way.config.dead_letters)
    way.put("logs/bad.log", b"\n".join([HEADER, GOOD, b"2 3 4"]))

    summary = way.drain(limit=2)  # rounds enough to meet what the first one has set aside
    later = way.drain()

    assert summary.dead_letters_skipped + later.dead_letters_skipped == 1
    assert way.rejects() == [("row", "wrong-number-of-values", 1)]
    assert way.queue_is_empty()
    again = backfill(way.config, [f"s3://{way.bucket}/logs/"], [])
    assert (again.objects, again.dead_letters_skipped) == (1, 1)
    assert way.rejects() == [("row", "wrong-number-of-values", 1)]


def test_a_resource_named_as_an_interface_and_one_with_a_long_name_have_roll_ups_of_their_own(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_PAGE", 1)
    long = b"r" * 3000
    header = b"interface-id resource-id bytes packets end"
    rows = [b"%s %s 1 1 1764000059" % pair for pair in ((b"x", b"x"), (b"-", b"x"), (b"-", long), (long, b"-"))]
    way.put("a.log", b"\n".join([header, *rows]))

    assert way.drain().rollups_created == 4

    assert verify(way.client, 60).differences == []
    keys = {(key.key_type, len(key.key)) for key, _ in rollups(way.client, 60)}
    assert keys == {("interface", 1), ("resource", 1), ("resource", 3000), ("interface", 3000)}


def test_an_object_deleted_before_it_is_read_is_named_in_the_dead_letters(way: Way) -> None:
    way.put("gone.log", b"\n".join([HEADER, GOOD]))
    way.s3.delete_object(Bucket=way.bucket, Key="gone.log")
    way.put("here.log", b"\n".join([HEADER, GOOD]))

    way.drain()

    assert way.rejects() == [("object", "object-missing", -1)]
    assert len(way.documents()) == 1
    assert way.queue_is_empty()


def test_of_one_message_each_object_has_its_own_fate(way: Way) -> None:
    way.put("here.log", b"\n".join([HEADER, GOOD]))
    assert way.drain().objects == 1
    way.put("there.log", b"\n".join([HEADER, OTHER]))
    assert len(way.sqs.receive_message(QueueUrl=way.queue_url, WaitTimeSeconds=5)["Messages"]) == 1
    way.sqs.purge_queue(QueueUrl=way.queue_url)
    records = [
        {
            "eventVersion": "2.1",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
        }
        for bucket, key in [("foreign", "a.log"), (way.bucket, "gone.log"), (way.bucket, "there.log")]
    ]
    for _ in range(3):
        way.sqs.send_message(QueueUrl=way.queue_url, MessageBody=json.dumps({"Records": records}))

    summary = way.drain()

    assert (summary.messages_deleted, summary.documents, summary.duplicates) == (3, 1, 2)
    assert way.rejects() == [("notification", "bucket-not-allowed", -1), ("object", "object-missing", -1)]
    assert len(way.documents()) == 2
    assert way.queue_is_empty()
    assert verify(way.client, 60).differences == []


def test_an_object_that_is_replaced_before_it_is_read_counts_as_what_it_is_then(way: Way) -> None:
    way.put("a.log", b"\n".join([HEADER, GOOD, GOOD]))
    way.put("a.log", b"\n".join([HEADER, OTHER]))

    summary = way.drain()

    assert (summary.messages_deleted, summary.documents, summary.duplicates) == (2, 1, 1)
    assert verify(way.client, 60).differences == []
    assert way.rejects() == []


@pytest.mark.parametrize("loss", ["deleted", "replaced"])
def test_what_a_worker_indexed_before_it_died_counts_though_its_object_is_lost(way: Way, loss: str) -> None:
    nodata = GOOD.replace(b"10.0.0.1 10.0.0.2 40000 443 6 10 840", b"- - - - - - -").replace(b"ACCEPT OK", b"- NODATA")
    way.put("a.log", b"\n".join([HEADER, *[GOOD] * 3000, OTHER, nodata]))
    (ref,) = list_objects(way.s3, way.bucket, "")
    writer = bulk_writer(way.config.elasticsearch, way.config.bulk)
    assert index_object(ref, way.config, way.s3, writer, way.dead_letters).parts  # and they die with the worker
    if loss == "deleted":
        way.s3.delete_object(Bucket=way.bucket, Key="a.log")
    else:
        way.put("a.log", b"\n".join([HEADER, OTHER]))

    way.drain()

    proof = verify(way.client, 60)
    assert proof.differences == []
    assert proof.documents == 3002 + (loss == "replaced")
    assert way.queue_is_empty()


def test_messages_that_are_no_notifications_or_of_other_buckets_are_set_aside(way: Way) -> None:
    foreign = {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": "foreign"}, "object": {"key": "a.log"}},
            }
        ]
    }
    for body in ("not json", json.dumps(foreign), json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})):
        way.sqs.send_message(QueueUrl=way.queue_url, MessageBody=body)
    way.put("here.log", b"\n".join([HEADER, GOOD]))

    summary = way.drain()

    assert [reason for _, reason, _ in way.rejects()] == ["bucket-not-allowed", "not-json"]
    assert summary.messages_rejected == 2
    assert len(way.documents()) == 1
    assert way.queue_is_empty()


def test_a_message_that_ended_every_drain_is_set_aside_and_the_others_go_through(way: Way) -> None:
    way.put("deadly.log", b"\n".join([HEADER, GOOD]))
    for _ in range(3):  # drains that died
        answer = way.sqs.receive_message(QueueUrl=way.queue_url, WaitTimeSeconds=5)
        for message in answer["Messages"]:
            receipt = message["ReceiptHandle"]
            way.sqs.change_message_visibility(QueueUrl=way.queue_url, ReceiptHandle=receipt, VisibilityTimeout=0)
    for number in range(25):
        way.put(f"{number}.log", b"\n".join([HEADER, GOOD]))

    summary = way.drain(max_receives=3)

    assert way.rejects() == [("object", "too-many-receives", -1)]
    assert (summary.messages_received, summary.messages_deleted, summary.objects) == (26, 26, 25)
    assert way.queue_is_empty()


def test_a_failed_round_gives_its_messages_back(way: Way) -> None:
    way.put("a.log", b"\n".join([HEADER, GOOD]))
    working = way.config
    way.config = JobConfig(
        ElasticsearchConfig(urls=("http://127.0.0.1:1",)), working.dead_letters, working.buckets, retry_for=1,
        bulk=working.bulk.__class__(retry_for=0),
    )  # fmt: skip

    with pytest.raises(Exception, match="made no progress"):
        way.drain()

    way.config = working
    assert way.drain().messages_redelivered == 1
    assert len(way.documents()) == 1
    assert way.queue_is_empty()
