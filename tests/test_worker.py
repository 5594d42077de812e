"""A worker that has to end gives back what it holds when its job ends for good, and only then."""

from __future__ import annotations

from typing import Any, cast

import pytest

from beam_flowlogs.flink_rest import JobAt
from beam_flowlogs.sqs_queue import SqsQueue
from beam_flowlogs.visibility import VisibilityKeeper
from beam_flowlogs.worker import _end, give_back
from tests.fake_sqs import FakeSqs


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


@pytest.fixture
def held(sqs: FakeSqs) -> VisibilityKeeper:
    """A keeper that holds two messages of a queue."""
    queue = SqsQueue(cast(Any, sqs), "https://sqs/q", retry_for=0)
    sqs.send("one")
    sqs.send("two")
    keeper = VisibilityKeeper(every_s=3600)
    keeper.hold(queue, {message.receipt: 0 for message in queue.receive(0)})
    return keeper


@pytest.mark.parametrize(("is_stopped", "visible"), [(True, 2), (False, 0)])
def test_the_messages_of_a_job_that_ends_for_good_are_given_back(
    sqs: FakeSqs, held: VisibilityKeeper, monkeypatch: pytest.MonkeyPatch, is_stopped: bool, visible: int
) -> None:
    monkeypatch.setattr(JobAt, "is_stopped", lambda _, timeout_s: is_stopped and timeout_s > 0)
    held.job = JobAt("http://flink", "flowlogs")

    assert give_back(held) == visible
    assert sqs.visible() == visible
    with held.receiving() as may:
        assert not may


def test_the_messages_of_a_job_that_nobody_can_be_asked_about_are_left_to_their_visibility(
    sqs: FakeSqs, held: VisibilityKeeper
) -> None:
    assert give_back(held) == 0
    held.job = JobAt("http://127.0.0.1:1", "flowlogs")
    assert give_back(held) == 0
    assert sqs.visible() == 0


def test_the_worker_ends_whatever_comes_of_giving_back(
    held: VisibilityKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: JobAt, timeout_s: float) -> bool:
        raise RuntimeError("nobody thought of that")

    monkeypatch.setattr(JobAt, "is_stopped", fail)
    monkeypatch.setattr("beam_flowlogs.worker.keeper", lambda: held)
    held.job = JobAt("http://flink", "flowlogs")
    ended: list[int] = []
    monkeypatch.setattr("beam_flowlogs.worker.os._exit", ended.append)

    _end()

    assert ended == [0]
    assert "nobody thought of that" in caplog.text
