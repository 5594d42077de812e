"""A drain that is told to end gives its messages back, so that the next one need not wait until they are seen again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.cli.errors import INTERRUPTED
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.generate import GeneratorConfig, S3Sink, generate
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from tests.conftest import NotifiedQueue

pytestmark = pytest.mark.integration

RECORDS = 60_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_drain_that_is_ended_gives_its_messages_back_and_the_next_one_is_exact(
    number: signal.Signals,
    make_queue: Callable[[], NotifiedQueue],
    cluster: Elasticsearch,
    elasticsearch: ElasticsearchServer,
    tmp_path: Path,
) -> None:
    bucket, queue_url = make_queue()
    config = GeneratorConfig(start=1_764_000_000, records=RECORDS, slots=30, accounts=1, regions=1)
    with S3Sink(boto3.client("s3"), bucket) as sink:
        generate(config, sink)
    options = ["--queue-url", queue_url, "--bucket", bucket, "--dead-letter", str(tmp_path)]

    with _drain(options, elasticsearch.url) as drain:
        _wait(lambda: _documents(cluster) > 0)
        drain.send_signal(number)
        assert drain.wait(60) == INTERRUPTED

    waiting, in_flight = _messages(queue_url)
    assert waiting > 0
    assert in_flight == 0
    with _drain(options, elasticsearch.url) as drain:
        assert drain.wait(120) == 0
    proof = verify(cluster, 60)
    assert proof.differences == []
    assert proof.documents == RECORDS
    assert _messages(queue_url) == (0, 0)


@contextmanager
def _drain(options: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    # A shell's `&` ignores a Ctrl-C, and so would the process.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from beam_flowlogs.cli import main; main()"
    variables = os.environ | {"ELASTICSEARCH_URL": url}
    drain = subprocess.Popen([sys.executable, "-c", code, "drain", *options], env=variables)
    try:
        yield drain
    finally:
        drain.kill()
        drain.wait()


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _documents(client: Elasticsearch) -> int:
    client.indices.refresh(index="flowlogs-raw-*", ignore_unavailable=True)
    return int(client.count(index="flowlogs-raw-*", ignore_unavailable=True)["count"])


def _messages(queue_url: str) -> tuple[int, int]:
    """How many messages wait in a queue, and how many are in flight."""
    found = boto3.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])
