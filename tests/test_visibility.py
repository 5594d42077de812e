"""Messages are hidden while they are under way, and no longer."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from beam_flowlogs.sqs_queue import Hidden, SqsQueue
from beam_flowlogs.visibility import LONGEST_HOLD_S, VisibilityKeeper
from tests.fake_sqs import FakeSqs, receive_all


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


@pytest.fixture
def queue(sqs: FakeSqs) -> SqsQueue:
    return SqsQueue(cast(Any, sqs), "https://sqs/q", retry_for=0, visibility_s=30)


@pytest.fixture
def keeper(sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch) -> VisibilityKeeper:
    """A keeper by the queue's clock that does nothing by itself."""
    monkeypatch.setattr("beam_flowlogs.visibility.time.monotonic", lambda: sqs.now)
    monkeypatch.setattr(VisibilityKeeper, "_run", lambda self: None)
    return VisibilityKeeper()


def test_a_held_message_stays_hidden_for_as_long_as_it_is_held(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 12), 5))

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
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 1), 0))

    for _ in range(100):
        sqs.now += 1
        keeper.extend()

    assert sqs.calls.count("hide") == 10


def test_a_message_let_go_is_extended_no_more(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    receipts = receive_all(sqs, queue, 2)
    keeper.hold(queue, dict.fromkeys(receipts, 0))
    keeper.let_go(receipts[:1])

    sqs.now += 20
    keeper.extend()
    sqs.now += 15

    assert sqs.visible() == 1


def test_what_another_process_has_deleted_is_held_no_more(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    receipts = receive_all(sqs, queue, 3)
    keeper.hold(queue, dict.fromkeys(receipts, 7))
    queue.delete(receipts[:2])

    sqs.now += 10
    keeper.extend()

    assert keeper.kept() == (1, 7)
    assert keeper.news() == (1, 2)
    assert keeper.news() == (0, 0), "each is told of once, however many ask"


def test_a_message_is_not_held_for_ever(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 1), 0))

    for _ in range(LONGEST_HOLD_S // 10 + 4):
        sqs.now += 10
        keeper.extend()

    assert keeper.kept().messages == 0
    assert sqs.visible() == 1


def test_what_is_given_back_can_be_received_at_once(sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper) -> None:
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 12), 0))

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
    keeper.hold(other, dict.fromkeys(receive_all(sick, other, 1), 0))
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 1), 0))

    for _ in range(5):
        sqs.now += 9
        keeper.extend()

    assert sqs.visible() == 0
    assert len(caplog.records) == 1
    assert keeper.give_back() == 1, "those that are visible again"
    assert sqs.visible() == 1


class MoodySqs(FakeSqs):
    """A queue that fails with the third request to hide messages, and with the first message of the second one."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def change_message_visibility_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        with self._lock:
            before = self.calls.count("hide")
            if before == 2:
                self.calls.append("hide")
                raise EndpointConnectionError(endpoint_url="https://sqs")
            if before != 1:
                return super().change_message_visibility_batch(Entries=Entries)
            answer = super().change_message_visibility_batch(Entries=Entries[1:])
            return {**answer, "Failed": [{"Id": Entries[0]["Id"], "SenderFault": False, "Code": "InternalError"}]}


def test_a_request_that_fails_keeps_no_other_messages_from_being_given_back_and_counts_as_it_ended(
    keeper: VisibilityKeeper,
) -> None:
    moody = MoodySqs()
    queue = SqsQueue(cast(Any, moody), "https://sqs/moody", visibility_s=30)
    keeper.hold(queue, dict.fromkeys(receive_all(moody, queue, 45), 0))

    assert keeper.give_back() == moody.visible() == 45 - 10 - 1


def test_what_was_extended_before_a_request_failed_is_not_extended_again(
    sqs: FakeSqs, keeper: VisibilityKeeper
) -> None:
    moody = MoodySqs()
    queue = SqsQueue(cast(Any, moody), "https://sqs/moody", visibility_s=30)
    keeper.hold(queue, dict.fromkeys(receive_all(moody, queue, 45), 0))
    moody.now = sqs.now = sqs.now + 11

    keeper.extend()
    assert keeper.news() == (19, 0)
    assert moody.calls.count("hide") == 3
    keeper.extend()
    assert keeper.news() == (26, 0)

    moody.now += 20
    assert moody.visible() == 0


def test_messages_are_given_back_in_several_requests_at_a_time(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 40), 0))
    together = threading.Barrier(4)
    hide = queue.hide

    def hide_together(receipts: list[str], seconds: int) -> Hidden:
        together.wait(10)
        return hide(receipts, seconds)

    monkeypatch.setattr(queue, "hide", hide_together)

    assert keeper.give_back() == sqs.visible() == 40


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
    keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 1), 0))
    sqs.now += 20
    asked, go_on = threading.Event(), threading.Event()
    hide = queue.hide

    def slow(receipts: list[str], seconds: int) -> Hidden:
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


def test_who_closes_waits_for_what_is_just_being_received(
    sqs: FakeSqs, queue: SqsQueue, keeper: VisibilityKeeper
) -> None:
    receiving, go_on = threading.Event(), threading.Event()

    def poll() -> None:
        with keeper.receiving() as may:
            assert may
            receiving.set()
            go_on.wait(10)
            keeper.hold(queue, dict.fromkeys(receive_all(sqs, queue, 3), 0))

    polling = threading.Thread(target=poll)
    polling.start()
    assert receiving.wait(10)
    threading.Timer(0.1, go_on.set).start()
    keeper.close(10)

    assert keeper.give_back() == 3
    assert sqs.visible() == 3
    polling.join()


def test_nobody_receives_after_the_close_and_it_does_not_wait_for_ever(keeper: VisibilityKeeper) -> None:
    with keeper.receiving() as may:
        assert may
        keeper.close(0.01)
        with keeper.receiving() as more:
            assert not more
