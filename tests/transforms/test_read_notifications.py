"""What comes out of received messages, and what is left in the queue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import apache_beam as beam
import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.sqs_queue import QueueConfig, SqsQueue
from beam_flowlogs.transforms import announce, poll_queue, read_notifications
from beam_flowlogs.transforms.announce import Announcer, decode_ref
from beam_flowlogs.transforms.poll_queue import PollFn, shard_key
from beam_flowlogs.transforms.progress import Progress
from beam_flowlogs.transforms.read_notifications import StreamNotifications
from beam_flowlogs.visibility import VisibilityKeeper
from tests.fake_sqs import FakeSqs

URL = "https://sqs/q"


def _body(*keys: str, bucket: str = "logs", size: int = 100) -> str:
    records = [
        {
            "eventVersion": "2.1",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": size}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> VisibilityKeeper:
    keeper = VisibilityKeeper(every_s=3600)
    monkeypatch.setattr(announce, "keeper", lambda: keeper)
    monkeypatch.setattr(poll_queue, "keeper", lambda: keeper)
    return keeper


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> FakeSqs:
    sqs = FakeSqs()
    monkeypatch.setattr(poll_queue, "connect_queue", lambda url, retry_for, visibility_s: _queue(sqs))
    return sqs


def _queue(sqs: FakeSqs) -> SqsQueue:
    return SqsQueue(cast(Any, sqs), URL, retry_for=0)


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:1",)), str(tmp_path), ("logs",))


def _sort(outputs: Any) -> tuple[dict[str, list[str]], dict[str, Progress]]:
    objects: dict[str, list[str]] = {}
    messages: dict[str, Progress] = {}
    for output in outputs:
        if isinstance(output, TaggedOutput):
            token, data = output.value
            messages[token] = Progress.decode(data)
        else:
            token, data = output
            objects.setdefault(token, []).append(decode_ref(data).key)
    return objects, messages


def _announce(announcer: Announcer, sqs: FakeSqs) -> tuple[dict[str, list[str]], dict[str, Progress]]:
    queue = _queue(sqs)
    return _sort(announcer.announce(queue, queue.receive(0)))


def test_each_message_gives_its_objects_under_a_token_of_its_own_and_is_held(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    sqs.send(_body("a", "b"))
    sqs.send(_body("a"))

    objects, messages = _announce(Announcer(config), sqs)

    assert sorted(objects.values()) == [["a"], ["a", "b"]]
    assert {token: progress.announced for token, progress in messages.items()} == {
        token: len(keys) for token, keys in objects.items()
    }
    assert keeper.kept()[:2] == (2, 300)


def test_the_jobs_own_dead_letters_are_no_flow_logs_though_they_are_announced(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    config = replace(config, dead_letters="s3://logs/dead")
    sqs.send(_body("dead/object/undated/a-1.avro"))
    sqs.send(_body("dead/replayed/row/2024/01/31/a-1.avro", "a"))

    objects, messages = _announce(Announcer(config), sqs)

    assert list(objects.values()) == [["a"]]
    assert [progress.announced for progress in messages.values()] == [1]
    assert len(sqs) == 1


def test_another_delivery_of_a_message_has_another_token(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    sqs.send(_body("a"))
    first, _ = _announce(Announcer(config), sqs)
    sqs.now += 301
    second, _ = _announce(Announcer(config), sqs)

    assert first.keys().isdisjoint(second.keys())


def test_what_cannot_be_used_is_set_aside_and_leaves_the_queue_without_blocking_the_rest(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    for body in ("junk", _body("x", bucket="foreign"), json.dumps({"Event": "s3:TestEvent"}), _body("a")):
        sqs.send(body)

    objects, _ = _announce(Announcer(config), sqs)

    assert list(objects.values()) == [["a"]]
    assert len(sqs) == 1
    assert keeper.kept().messages == 1
    rejects = sorted(reject.reason for _, reject in DeadLetters(config.dead_letters).read())
    assert rejects == ["bucket-not-allowed", "not-json"]


def test_a_message_about_many_forbidden_objects_is_kept_once(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    sqs.send(_body("a", "b", "c", bucket="foreign"))

    _announce(Announcer(config), sqs)

    kept = [reject for _, reject in DeadLetters(config.dead_letters).read()]
    assert [reject.key for reject in kept] == ["a", "b", "c"]
    assert [bool(reject.data) for reject in kept] == [True, False, False]


def test_a_message_received_too_often_names_its_objects_in_the_dead_letters(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper
) -> None:
    sqs.send(_body("deadly", "neighbour"))
    announcer = Announcer(config, max_receives=2)
    for _ in range(2):
        objects, _messages = _announce(announcer, sqs)
        assert objects
        sqs.now += 301

    objects, _messages = _announce(announcer, sqs)

    assert objects == {}
    assert len(sqs) == 0
    rejects = [reject for _, reject in DeadLetters(config.dead_letters).read()]
    assert sorted((reject.stage, reject.reason, reject.key) for reject in rejects) == [
        ("object", "too-many-receives", "deadly"),
        ("object", "too-many-receives", "neighbour"),
    ]


def test_messages_that_were_tried_before_end_a_drains_round_so_that_few_share_their_fate(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_notifications, "connect_queue", lambda url, retry_for: _queue(sqs))
    for number in range(35):
        sqs.send(_body(str(number)))

    def receive() -> int:
        receiving = read_notifications._ReceiveFn(config, 1000, 4)
        return len(_sort(receiving.process(URL))[1])

    counts = []
    for _ in range(3):
        counts.append(receive())
        sqs.now += 301

    assert counts == [35, 35, 10]


class Poll:
    """The polls of a shard, as a runner makes them: each time that the timer goes off."""

    def __init__(self, config: JobConfig, **options: Any) -> None:
        self.fn = PollFn(config, QueueConfig((URL,), delivery_delay_s=900, **options))
        self.fn.process((shard_key(URL, 0), URL), timer=self)

    def set(self, to: Timestamp) -> None:
        self.watermark = to

    def __call__(self) -> dict[str, list[str]]:
        return _sort(self.fn.poll(shard_key(URL, 0), self.watermark, timer=self))[0]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch, sqs: FakeSqs) -> None:
    monkeypatch.setattr("beam_flowlogs.transforms.poll_queue.time.time", lambda: sqs.now)


def test_a_poll_takes_what_there_is_and_goes_on_later(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper, now: None
) -> None:
    for number in range(25):
        sqs.send(_body(str(number)))
    poll = Poll(config)

    assert len(poll()) == 25
    assert poll() == {}
    sqs.send(_body("another"))
    assert len(poll()) == 1


def test_nothing_is_received_while_too_much_is_in_flight(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper, now: None
) -> None:
    for number in range(40):
        sqs.send(_body(str(number), size=1000))
    by_number, by_bytes = Poll(config, max_in_flight=20), Poll(config, max_in_flight_bytes=29_000)

    assert len(by_number()) == 20
    assert by_number() == {}
    assert len(by_bytes()) == 10
    assert by_bytes() == {}


def test_the_watermark_trails_the_clock_when_idle_the_oldest_message_when_behind_and_never_goes_back(
    sqs: FakeSqs, config: JobConfig, keeper: VisibilityKeeper, now: None
) -> None:
    poll = Poll(config)
    poll()
    assert poll.watermark == Timestamp(1000 - 900)

    sqs.send(_body("a"))
    sqs.now += 500
    poll()
    assert poll.watermark == Timestamp(1000 - 900)

    poll()
    assert poll.watermark == Timestamp(1500 - 900)


def test_what_is_received_has_no_end(config: JobConfig) -> None:
    announced = beam.Pipeline() | StreamNotifications(QueueConfig((URL,)), config)

    assert not announced.objects.is_bounded  # or roll-ups would wait for the end
