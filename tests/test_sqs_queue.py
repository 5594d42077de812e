"""Messages are hidden while they are under way, and no longer."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from botocore.exceptions import ConnectionClosedError

from beam_flowlogs.sqs_queue import (
    LONGEST_HOLD_S,
    MOST_VISIBILITY_S,
    QueueConfig,
    SqsQueue,
    VisibilityKeeper,
    check_queue_url,
)
from tests.fake_sqs import FakeSqs


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


@pytest.fixture
def queue(sqs: FakeSqs) -> SqsQueue:
    return SqsQueue(cast(Any, sqs), "https://sqs/q", retry_for=0, visibility_s=30)


@pytest.fixture
def keeper(sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch) -> VisibilityKeeper:
    """A keeper by the queue's clock that does nothing by itself."""
    monkeypatch.setattr("beam_flowlogs.sqs_queue.time.monotonic", lambda: sqs.now)
    monkeypatch.setattr(VisibilityKeeper, "_run", lambda self: None)
    return VisibilityKeeper()


def _receive(sqs: FakeSqs, queue: SqsQueue, count: int) -> list[str]:
    for number in range(count):
        sqs.send(f"message {number}")
    found = []
    while messages := queue.receive(0):
        found += [message.receipt for message in messages]
    return found


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
    receipts = _receive(sqs, queue, 25)

    assert queue.delete(receipts) == 25
    assert len(sqs) == 0
    assert sqs.calls.count("delete") == 3


def test_a_receipt_that_expired_is_not_counted_as_deleted(sqs: FakeSqs, queue: SqsQueue) -> None:
    receipts = _receive(sqs, queue, 2)
    sqs.now += 31

    assert queue.delete(receipts) == 0
    assert len(sqs) == 2


def test_a_held_message_stays_hidden_for_as_long_as_it_is_held(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 12), 5))

    for _ in range(20):
        sqs.now += 9
        keeper.extend()
        assert sqs.visible() == 0

    assert keeper.kept() == (12, 60)
    extended, expired = keeper.news()
    assert extended > 12
    assert expired == 0


def test_a_message_is_extended_only_when_a_third_of_its_time_has_passed(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 1), 0))

    for _ in range(100):
        sqs.now += 1
        keeper.extend()

    assert sqs.calls.count("hide") == 10


def test_a_message_let_go_is_extended_no_more(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    receipts = _receive(sqs, queue, 2)
    keeper.hold(queue, dict.fromkeys(receipts, 0))
    keeper.let_go(receipts[:1])

    sqs.now += 20
    keeper.extend()
    sqs.now += 15

    assert sqs.visible() == 1


def test_what_another_process_has_deleted_is_held_no_more(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    receipts = _receive(sqs, queue, 3)
    keeper.hold(queue, dict.fromkeys(receipts, 7))
    queue.delete(receipts[:2])

    sqs.now += 10
    keeper.extend()

    assert keeper.kept() == (1, 7)
    assert keeper.news() == (1, 2)
    assert keeper.news() == (0, 0), "each is told of once, however many ask"


def test_a_message_is_not_held_for_ever(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 1), 0))

    for _ in range(LONGEST_HOLD_S // 10 + 4):
        sqs.now += 10
        keeper.extend()

    assert keeper.kept().messages == 0
    assert sqs.visible() == 1


def test_what_is_given_back_can_be_received_at_once(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 12), 0))

    assert keeper.give_back() == 12
    assert sqs.visible() == 12
    assert keeper.kept().messages == 0


class SickSqs(FakeSqs):
    """A queue that hides nothing, for a reason that nobody thought of."""

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        raise KeyError("Failed")


def test_trouble_with_one_queue_keeps_nothing_from_the_others(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    sick = SickSqs()
    other = SqsQueue(cast(Any, sick), "https://sqs/sick", visibility_s=30)
    keeper.hold(other, dict.fromkeys(_receive(sick, other, 1), 0))
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 1), 0))

    for _ in range(5):
        sqs.now += 9
        keeper.extend()

    assert sqs.visible() == 0
    assert len(caplog.records) == 1
    assert keeper.give_back() == 2
    assert sqs.visible() == 1


def test_the_keepers_thread_survives_every_error(
    sqs: FakeSqs, queue: SqsQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = threading.Semaphore(0)

    def fail(_: VisibilityKeeper) -> None:
        calls.release()
        raise RuntimeError

    monkeypatch.setattr(VisibilityKeeper, "extend", fail)
    VisibilityKeeper(every_s=0.001).hold(queue, {"receipt": 0})

    for _ in range(3):
        assert calls.acquire(timeout=10)


def test_what_is_given_back_while_it_is_being_extended_stays_given_back(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.hold(queue, dict.fromkeys(_receive(sqs, queue, 1), 0))
    sqs.now += 20
    asked, go_on = threading.Event(), threading.Event()
    hide = queue.hide

    def slow(receipts: list[str], seconds: int) -> list[str]:
        if seconds:
            asked.set()
            go_on.wait(10)
        return hide(receipts, seconds)

    monkeypatch.setattr(queue, "hide", slow)
    extending = threading.Thread(target=keeper.extend)
    extending.start()
    assert asked.wait(10)
    giving_back = threading.Thread(target=keeper.give_back)
    giving_back.start()
    giving_back.join(0.2)  # it waits for its turn; without one it would be done by now, and the message hidden again
    go_on.set()
    extending.join()
    giving_back.join()

    assert sqs.visible() == 1


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
