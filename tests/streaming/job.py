"""A job on a real Flink between a queue and a real Elasticsearch, and what must hold when it has done its work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.verify import rollups, verify
from beam_flowlogs.flink_rest import FlinkRest
from beam_flowlogs.generate import GeneratorConfig, S3Sink, Truth, generate
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.flink import FlinkServers
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.rollup import COUNTERS
from beam_flowlogs.s3_object import object_id
from tests.streaming.recorder import Proxy, Record

NAME = "flowlogs-streamed"
VISIBILITY_S = 20
_SETTLE_S = 300


class Stream:
    """The job with all around it. Between it and the servers stand proxies that record, and make trouble."""

    def __init__(
        self,
        elasticsearch: ElasticsearchServer,
        to_elasticsearch: Proxy,
        to_aws: Proxy,
        queue: str,
        record: Record,
        flink: FlinkServers,
        variables: dict[str, str],
        folder: Path,
    ) -> None:
        self.elasticsearch = elasticsearch
        self.to_elasticsearch = to_elasticsearch
        self.to_aws = to_aws
        self.queue_url = f"{to_aws.url}/000000000000/{queue}"
        self.record = record
        self.flink = flink
        self.rest = FlinkRest(flink.job_manager.url)
        self.dead_letters = DeadLetters(str(folder))
        self.client: Elasticsearch = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
        self.s3 = boto3.client("s3")
        self.sqs = boto3.client("sqs")
        self.before = 0
        self._variables = variables
        self._folder = folder

    def run(self, *arguments: str) -> str:
        """Run `flowlogs stream` and return what it prints."""
        command = [sys.executable, "-m", "beam_flowlogs.cli", "stream", *arguments]
        environment = {**os.environ, **self._variables, "ELASTICSEARCH_URL": self.to_elasticsearch.url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str) -> None:
        """Hand the job in; ends when it runs."""
        self.run(
            *("--queue-url", self.queue_url, "--bucket", NAME, "--dead-letter", str(self._folder)),
            *("--visibility", str(VISIBILITY_S), "--checkpoint-every", "5", *arguments),
        )

    def feed(self, seed: int, start: int, **arguments: Any) -> Truth:
        """Put objects, announce every third of them three times, add what is bad; return the truth about them."""
        config = GeneratorConfig(start=start, seed=seed, prefix=_prefix(seed), **arguments)
        with S3Sink(self.s3, NAME) as sink:
            truth = generate(config, sink)
        for entry in [*truth.objects[::3], *truth.objects[::3]]:
            self.s3.copy_object(
                Bucket=NAME, Key=entry["key"], CopySource=f"{NAME}/{entry['key']}", MetadataDirective="REPLACE"
            )
        self.s3.put_object(Bucket=NAME, Key=f"{_prefix(seed)}/bad.log.gz", Body=b"neither gzip nor text")
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=_junk(seed))
        return truth

    def count(self) -> int:
        """How many raw documents have come since the test began, when there were ``before``."""
        self.client.indices.refresh(index="flowlogs-raw-*", ignore_unavailable=True)
        return int(self.client.count(index="flowlogs-raw-*", ignore_unavailable=True)["count"]) - self.before

    def under_way(self) -> int:
        """Messages in the queue, received or not."""
        return self._messages("ApproximateNumberOfMessages") + self.hidden()

    def hidden(self) -> int:
        """Messages that somebody has received and neither deleted nor given back."""
        return self._messages("ApproximateNumberOfMessagesNotVisible")

    def _messages(self, which: Any) -> int:
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[which])
        return int(found["Attributes"][which])

    def wait_for_documents(self, least: int = 1) -> None:
        """Wait until so many raw documents are there, with more to come."""
        until(lambda: self.count() >= least, 120, "the first documents")
        assert self.under_way() > 0

    def settle(self) -> None:
        """Wait until every message is deleted."""
        until(lambda: self.under_way() == 0, _SETTLE_S, "the queue to be empty")

    def workers(self) -> list[int]:
        """The Python processes that run the steps."""
        pool = self.flink.worker_pool.child.pid
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pool)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def assert_exact(self, seed: int, truth: Truth) -> None:
        """Raw documents are the records, roll-ups their sums, both the truth; the dead letters hold what is bad."""
        proof = verify(self.client, 60)
        assert not proof.differences, proof._replace(differences=proof.differences[:3])
        assert proof.documents == self.before + truth.records
        told = [name for name in COUNTERS if not name.startswith(("protocol.", "tcp."))]  # by the truth
        expected = {
            (entry["key_type"], entry["key"], entry["window_start"]): {name: _at(entry, name) for name in told}
            for entry in truth.rollups
        }
        found = {
            (key.key_type, key.key, key.start): {name: counts[name] for name in told}
            for key, counts in rollups(self.client, 60)
        }
        assert {key: found.get(key) for key in expected} == expected
        rejects = [reject for _, reject in self.dead_letters.read()]
        assert [reject.data.decode() for reject in rejects if reject.stage == "notification"].count(_junk(seed)) == 1
        assert [reject.key for reject in rejects if reject.key.startswith(f"{_prefix(seed)}/")] == [
            f"{_prefix(seed)}/bad.log.gz"
        ]

    def assert_acknowledged_last(self, truth: Truth) -> None:
        """No message was deleted before all documents and all roll-ups of its objects had been acknowledged."""
        record = self.record
        records = {entry["key"]: entry["records"] for entry in truth.objects}
        deleted = {
            receipt: at for receipt, at in record.deleted.items() if set(record.announced[receipt]) <= set(records)
        }
        deleted = {receipt: at for receipt, at in deleted.items() if record.announced[receipt]}
        assert {key for receipt in deleted for key in record.announced[receipt]} == set(records)
        for receipt, at in deleted.items():
            for key in record.announced[receipt]:
                etag = self.s3.head_object(Bucket=NAME, Key=key)["ETag"].strip('"')
                found = object_id(NAME, key, etag)
                assert sum(durable <= at for durable in record.documents[found].values()) == records[key]
                # Those of the window that every job of a test has: one that was added later comes with a later message.
                merged = [durable for rollup, durable in record.merged[found].items() if rollup.startswith("60s-")]
                assert merged
                assert all(durable <= at for durable in merged)

    def receipts(self, truth: Truth) -> int:
        """How many messages that announce these objects were received, counted again when received again."""
        keys = {entry["key"] for entry in truth.objects}
        return sum(not keys.isdisjoint(announced) for announced in self.record.announced.values())


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


def _prefix(seed: int) -> str:
    return f"seed-{seed:04d}"


def _junk(seed: int) -> str:
    return f"junk of {_prefix(seed)}"


def _at(entry: dict[str, Any], path: str) -> int:
    value: Any = entry
    for name in path.split("."):
        value = value[name]
    return int(value)
