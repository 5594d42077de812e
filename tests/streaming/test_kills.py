"""Killing things while a job streams on a real Flink: nothing may be lost, counted twice, or acknowledged too soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.elastic.verify import rollups, verify
from beam_flowlogs.flink_rest import FlinkRest
from beam_flowlogs.generate import GeneratorConfig, S3Sink, Truth, generate
from beam_flowlogs.generate.config import default_start
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.flink import Flink, FlinkServers
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.rollup import COUNTERS
from beam_flowlogs.s3_object import object_id
from tests.streaming.recorder import Record, recording

pytestmark = [pytest.mark.integration, pytest.mark.flink, pytest.mark.timeout(1200)]

LONG_AGO = 1_764_000_000
VISIBILITY_S = 20
SETTLE_S = 300
NAME = "flowlogs-streamed"


class Stream:
    """A job on Flink between a queue and Elasticsearch, each behind a proxy that records."""

    def __init__(
        self,
        elasticsearch: ElasticsearchServer,
        elasticsearch_url: str,
        queue_url: str,
        record: Record,
        flink: FlinkServers,
        variables: dict[str, str],
        folder: Path,
    ) -> None:
        self.elasticsearch = elasticsearch
        self.queue_url = queue_url
        self.record = record
        self.flink = flink
        self.rest = FlinkRest(flink.job_manager.url)
        self.dead_letters = DeadLetters(str(folder))
        self.client: Elasticsearch = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
        self.s3 = boto3.client("s3")
        self.sqs = boto3.client("sqs")
        self._elasticsearch_url = elasticsearch_url
        self._variables = variables
        self._folder = folder

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "beam_flowlogs.cli", "stream", *arguments]
        environment = {**os.environ, **self._variables, "ELASTICSEARCH_URL": self._elasticsearch_url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str) -> None:
        self.run(
            *("--queue-url", self.queue_url, "--bucket", NAME, "--dead-letter", str(self._folder)),
            *("--visibility", str(VISIBILITY_S), "--checkpoint-every", "5", *arguments),
        )

    def feed(self, seed: int, start: int, **arguments: Any) -> Truth:
        """Put objects, announce every third of them again, and return the truth about them."""
        config = GeneratorConfig(start=start, seed=seed, prefix=f"seed-{seed}", **arguments)
        with S3Sink(self.s3, NAME) as sink:
            truth = generate(config, sink)
        for entry in truth.objects[::3]:
            self.s3.copy_object(
                Bucket=NAME, Key=entry["key"], CopySource=f"{NAME}/{entry['key']}", MetadataDirective="REPLACE"
            )
        return truth

    def count(self) -> int:
        self.client.indices.refresh(index="flowlogs-raw-*", ignore_unavailable=True)
        return int(self.client.count(index="flowlogs-raw-*", ignore_unavailable=True)["count"])

    def under_way(self) -> int:
        """Messages in the queue, received or not."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    def settle(self) -> None:
        """Wait until every message is deleted."""
        _until(lambda: self.under_way() == 0, SETTLE_S, "the queue to be empty")

    def workers(self) -> list[int]:
        """The Python processes that run the steps."""
        pool = self.flink.worker_pool.child.pid
        return [int(pid) for pid in Path(f"/proc/{pool}/task/{pool}/children").read_text().split()] or _children(pool)


def _children(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def stream(
    make_home: Callable[[], Path],
    aws: AwsEmulator,
    elasticsearch_options: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stream]:
    record = Record()
    flink = Flink(make_home(), cache=elasticsearch_options["cache"])
    queue = aws.create_notified_bucket(NAME, NAME).rpartition("/")[2]
    with (
        ElasticsearchServer(make_home(), **elasticsearch_options) as elasticsearch,
        recording(elasticsearch.url, record.elasticsearch) as elasticsearch_url,
        recording(aws.url, record.aws) as aws_url,
    ):
        set_up(connect(ElasticsearchConfig(urls=(elasticsearch.url,))))
        try:
            servers = flink.start({**aws.environment(), "AWS_ENDPOINT_URL": aws_url})
            queue_url = f"{aws_url}/000000000000/{queue}"
            folder = tmp_path_factory.mktemp("dead-letters")
            found = Stream(elasticsearch, elasticsearch_url, queue_url, record, servers, flink.environment(), folder)
            found.start()
            yield found
        finally:
            flink.stop()


@pytest.fixture
def fresh(stream: Stream) -> Stream:
    """The running job with an empty queue and no documents."""
    assert stream.under_way() == 0
    for index in stream.client.indices.get(index="flowlogs-*", expand_wildcards="all"):
        stream.client.indices.delete(index=index)
    return stream


def _assert_exact(stream: Stream, truth: Truth) -> None:
    """Raw documents are the records, roll-ups their sums, both the truth, and nothing was set aside."""
    proof = verify(stream.client, 60)
    assert proof.differences == []
    assert proof.documents == truth.records
    told = [name for name in COUNTERS if not name.startswith(("protocol.", "tcp."))]  # by the truth
    assert {
        (key.key_type, key.key, key.start): {name: counts[name] for name in told}
        for key, counts in rollups(stream.client, 60)
    } == {
        (entry["key_type"], entry["key"], entry["window_start"]): {name: _at(entry, name) for name in told}
        for entry in truth.rollups
    }
    assert list(stream.dead_letters.read()) == []


def _at(entry: dict[str, Any], path: str) -> int:
    value: Any = entry
    for name in path.split("."):
        value = value[name]
    return int(value)


def _assert_acknowledged_last(stream: Stream, truth: Truth) -> None:
    """No message was deleted before all documents and all roll-ups of its objects had been acknowledged."""
    record = stream.record
    records = {entry["key"]: entry["records"] for entry in truth.objects}
    deleted = {receipt: at for receipt, at in record.deleted.items() if set(record.announced[receipt]) <= set(records)}
    assert {key for receipt in deleted for key in record.announced[receipt]} == set(records)
    for receipt, at in deleted.items():
        for key in record.announced[receipt]:
            etag = stream.s3.head_object(Bucket=NAME, Key=key)["ETag"].strip('"')
            found = object_id(NAME, key, etag)
            assert sum(durable <= at for durable in record.documents[found].values()) == records[key]
            assert record.merged[found]
            assert all(durable <= at for durable in record.merged[found].values())


def _kill_the_task_manager(stream: Stream) -> None:
    stream.flink.task_manager.child.kill()


def _kill_the_workers(stream: Stream) -> None:
    for pid in stream.workers():
        os.kill(pid, signal.SIGKILL)


def _take_elasticsearch_away(stream: Stream) -> None:
    stream.elasticsearch.kill()
    time.sleep(20)
    stream.elasticsearch.start()


@pytest.mark.parametrize(
    ("seed", "start", "trouble"),
    [
        pytest.param(1, 0, _kill_the_task_manager, id="task-manager"),
        pytest.param(2, LONG_AGO, _kill_the_workers, id="workers-with-flow-logs-of-long-ago"),
        pytest.param(3, 0, _take_elasticsearch_away, id="elasticsearch-away-for-20-s"),
    ],
)
def test_nothing_is_lost_or_counted_twice_or_acknowledged_too_soon(
    fresh: Stream, seed: int, start: int, trouble: Callable[[Stream], None]
) -> None:
    truth = fresh.feed(seed, start or default_start(6), records=30_000, slots=6)
    _until(lambda: fresh.count() > truth.records / 20, 120, "the first documents")
    assert fresh.under_way() > 0

    trouble(fresh)

    fresh.settle()
    _assert_exact(fresh, truth)
    _assert_acknowledged_last(fresh, truth)


def test_a_job_goes_on_from_its_savepoint(fresh: Stream) -> None:
    truth = fresh.feed(4, default_start(6), records=30_000, slots=6)
    _until(lambda: fresh.count() > truth.records / 20, 120, "the first documents")

    savepoint = fresh.run("stop", "--savepoint")
    fresh.start("--from-savepoint", savepoint)

    fresh.settle()
    _assert_exact(fresh, truth)
    _assert_acknowledged_last(fresh, truth)
