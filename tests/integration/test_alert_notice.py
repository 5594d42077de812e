"""Telling of alerts, over a real webhook and the SNS emulator: tried again, given up, and never with the address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from beam_flowlogs.alert_notice import AlertConfig, notify
from beam_flowlogs.local.aws import AwsEmulator
from tests.integration.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.integration


class Hook:
    """A webhook that refuses some calls and keeps the rest."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.heard: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.refusals -= 1
                self.send_response(503 if hook.refusals >= 0 else 204)
                self.end_headers()
                if hook.refusals < 0:
                    hook.heard.append(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


ALERT = {
    "message": "eni-1: too much",
    "rule": {"name": "too-much"},
    "flowlogs": {"alert": {"status": "open", "key": "eni-1"}},
}


def test_a_webhook_that_answers_later_hears_of_the_alert_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Hook(refusals=2)
    monkeypatch.setenv("HOOK_LATE", f"http://127.0.0.1:{hook.server.server_port}/secret-path")

    told = notify(AlertConfig(webhook="env:HOOK_LATE"), [ALERT])

    hook.server.shutdown()
    assert hook.heard == told == [ALERT]


def test_a_webhook_that_always_refuses_is_warned_of_without_its_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(refusals=100)
    monkeypatch.setenv("HOOK_DEAD", f"http://127.0.0.1:{hook.server.server_port}/secret-path")

    assert notify(AlertConfig(webhook="env:HOOK_DEAD"), [ALERT, ALERT]) == []

    hook.server.shutdown()
    assert caplog.text.count("2 alerts could not be told to the webhook (HTTPError), first: eni-1: too much") == 1
    assert "secret-path" not in caplog.text


def test_a_webhook_whose_secret_is_missing_is_named_by_its_reference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("HOOK_NONE", raising=False)

    assert notify(AlertConfig(webhook="env:HOOK_NONE"), [ALERT]) == []

    assert "the environment variable HOOK_NONE is not set on this worker" in caplog.text


class Topic:
    """A topic whose messages end in a queue; ``proxy`` stands between us and it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        sns, self._sqs = boto3.client("sns"), boto3.client("sqs")
        self.arn = sns.create_topic(Name="flowlogs-alerts-test")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="flowlogs-alerts-test")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=attributes["QueueArn"])

    def heard(self) -> list[dict[str, Any]]:
        """The messages that came, as SNS hands them on."""
        found = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=2, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in found.get("Messages", ())]


@pytest.fixture
def topic(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    target = urlsplit(aws.url)
    assert target.hostname
    assert target.port
    with FaultProxy(target.hostname, target.port) as proxy:
        topic = Topic(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield topic


def test_an_sns_topic_hands_the_alert_on(topic: Topic) -> None:
    assert notify(AlertConfig(sns_topic=topic.arn), [ALERT]) == [ALERT]

    (envelope,) = topic.heard()
    assert envelope["Subject"] == "[open] too-much eni-1"
    assert json.loads(envelope["Message"]) == ALERT


def test_an_sns_topic_that_answers_later_hears_of_the_alert_once(topic: Topic) -> None:
    topic.proxy.fail(Fault(status=503), Fault(status=500), Fault(cut_after=0, reset=True, status=503))

    assert notify(AlertConfig(sns_topic=topic.arn), [ALERT]) == [ALERT]

    assert topic.proxy.planned == 0
    assert [json.loads(envelope["Message"]) for envelope in topic.heard()] == [ALERT]


def test_an_sns_topic_that_is_not_there_is_warned_of_and_holds_up_nobody(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"{topic.arn}-gone"

    assert notify(AlertConfig(sns_topic=gone), [ALERT, ALERT]) == []

    assert f"2 alerts could not be told to {gone}" in caplog.text
