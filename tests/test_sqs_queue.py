"""Messages are received, hidden, and deleted by the rules of SQS."""

from __future__ import annotations

from typing import Any, cast

import pytest
from botocore.exceptions import ConnectionClosedError

from beam_flowlogs.sqs_queue import (
    MOST_VISIBILITY_S,
    QueueConfig,
    SqsQueue,
    check_queue_url,
)
from tests.fake_sqs import FakeSqs, receive_all


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


@pytest.fixture
def queue(sqs: FakeSqs) -> SqsQueue:
    return SqsQueue(cast(Any, sqs), "https://sqs/q", retry_for=0, visibility_s=30)


def test_a_received_message_is_hidden_for_the_queues_visibility_and_then_comes_again(
    sqs: FakeSqs, queue: SqsQueue
) -> None:
    sqs.send("hello")
    (first,) = queue.receive(0)
    assert (first.body, first.receive_count, first.sent_ms) == ("hello", 1, 1_000_000)
    assert queue.receive(0) == []

    sqs.now += 30

    (again,) = queue.receive(0)
    assert again.receive_count == 2
    assert again.receipt != first.receipt


def test_more_than_ten_receipts_are_deleted_in_several_requests(sqs: FakeSqs, queue: SqsQueue) -> None:
    receipts = receive_all(sqs, queue, 25)

    assert queue.delete(receipts) == 25
    assert len(sqs) == 0
    assert sqs.calls.count("delete") == 3


def test_a_receipt_that_expired_is_not_counted_as_deleted(sqs: FakeSqs, queue: SqsQueue) -> None:
    receipts = receive_all(sqs, queue, 2)
    sqs.now += 31

    assert queue.delete(receipts) == 0
    assert len(sqs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"urls": ()}, "--queue-url"),
        ({"shards": 0}, "shards is 0"),
        ({"max_in_flight": 0}, "max_in_flight is 0"),
        ({"visibility_s": 2}, "visibility_s is 2"),
        ({"visibility_s": MOST_VISIBILITY_S + 1}, "43200"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QueueConfig(**{"urls": ("https://sqs/q",), **arguments})


def test_a_queue_that_does_not_answer_is_not_taken_for_s3(
    sqs: FakeSqs, queue: SqsQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("beam_flowlogs.s3_client._last_warning", {})
    answers = [ConnectionClosedError(endpoint_url="https://sqs/q"), {"Messages": []}]

    def receive(**_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(sqs, "receive_message", receive)
    assert SqsQueue(cast(Any, sqs), "https://sqs/q").receive(0) == []
    assert "SQS does not answer" in caplog.text
    assert "S3" not in caplog.text


@pytest.mark.parametrize(
    "url", ["https://sqs.eu-west-1.amazonaws.com/1/q", "http://127.0.0.1:4566/000000000000/q", "http://queue:9324/q"]
)
def test_the_url_of_a_queue_is_taken(url: str) -> None:
    check_queue_url(url)


@pytest.mark.parametrize(
    "url", ["", "q", "arn:aws:sqs:eu-west-1:1:q", "https://sqs.eu-west-1.amazonaws.com/", "s3://q/x"]
)
def test_what_is_no_url_of_a_queue_is_refused_with_how_to_find_it(url: str) -> None:
    with pytest.raises(ValueError, match="aws sqs get-queue-url"):
        QueueConfig((url,))
