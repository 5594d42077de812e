"""Messages leave their queue once all their progress has come together, and only then."""

from __future__ import annotations

from typing import Any, cast

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.sqs_queue import SqsQueue
from beam_flowlogs.transforms.acknowledge import Acknowledge
from beam_flowlogs.transforms.progress import Progress
from tests.fake_sqs import FakeSqs

URL = "https://sqs/q"
CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:1",)), "dead-letters", ("*",))


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> FakeSqs:
    sqs = FakeSqs()
    monkeypatch.setattr(
        "beam_flowlogs.transforms.acknowledge.connect_queue",
        lambda url, retry_for: SqsQueue(cast(Any, sqs), url, retry_for=retry_for),
    )
    return sqs


def _receive(sqs: FakeSqs, count: int) -> list[str]:
    for number in range(count):
        sqs.send(str(number))
    return [message.receipt for message in SqsQueue(cast(Any, sqs), URL).receive(0)]


def _acknowledge(*collections: list[tuple[str, Progress]]) -> None:
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        encoded = [
            pipeline
            | f"Create{number}"
            >> beam.Create([(token, progress.encode()) for token, progress in collection]).with_output_types(
                tuple[str, bytes]
            )
            for number, collection in enumerate(collections)
        ]
        _ = tuple(encoded) | Acknowledge(CONFIG)


def test_only_messages_of_which_everything_is_durable_are_deleted(sqs: FakeSqs) -> None:
    done, not_indexed, not_merged = _receive(sqs, 3)
    _acknowledge(
        [
            ("done", Progress(URL, done, announced=2)),
            ("not-indexed", Progress(URL, not_indexed, announced=2)),
            ("not-merged", Progress(URL, not_merged, announced=1)),
        ],
        [
            ("done", Progress(indexed=1, parts=3)),
            ("done", Progress(indexed=1)),
            ("not-indexed", Progress(indexed=1)),
            ("not-merged", Progress(indexed=1, parts=2)),
        ],
        [("done", Progress(merged=2)), ("done", Progress(merged=1)), ("not-merged", Progress(merged=1))],
    )

    sqs.now += 10_000
    assert len(sqs) == 2
    left = {message.body for message in SqsQueue(cast(Any, sqs), URL).receive(0)}
    assert left == {"1", "2"}


def test_an_expired_receipt_fails_nothing(sqs: FakeSqs) -> None:
    (receipt,) = _receive(sqs, 1)
    sqs.now += 10_000

    _acknowledge([("token", Progress(URL, receipt, announced=1))], [("token", Progress(indexed=1))])

    assert len(sqs) == 1
