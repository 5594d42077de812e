"""The servers of the local stack, for real: their start, their crash, their end."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.process import Process, free_port
from tests.conftest import NotifiedQueue, StartElasticsearch

pytestmark = pytest.mark.integration


def _ask(server: ElasticsearchServer, path: str, method: str = "GET", body: Any = None) -> Any:
    request = urllib.request.Request(f"{server.url}{path}", method=method)
    request.add_header("Content-Type", "application/json")
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if server.security:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(server.ca_path))))
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        passwords.add_password(None, server.url, "elastic", server.password_file.read_text(), is_authenticated=True)
        handlers.append(urllib.request.HTTPBasicAuthHandler(passwords))
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.build_opener(*handlers).open(request, data, timeout=30) as answer:
        return json.load(answer)


def test_a_killed_elasticsearch_starts_again_on_its_data_and_its_port(start_elasticsearch: StartElasticsearch) -> None:
    server = start_elasticsearch()
    url, pid = server.url, server.pid
    _ask(server, "/kept/_doc/1?refresh=true", "PUT", {"field": "value"})
    server.kill()
    assert not server.running
    assert not Process.of(pid).alive()
    server.start()
    assert server.url == url
    assert server.pid != pid
    assert _ask(server, "/kept/_doc/1")["_source"] == {"field": "value"}


def test_security_means_tls_and_a_password_and_settings_reach_the_server(
    start_elasticsearch: StartElasticsearch,
) -> None:
    server = start_elasticsearch(security=True, settings={"indexing_pressure.memory.limit": "300kb"})
    assert server.url.startswith("https://")
    nodes = _ask(server, "/_nodes/settings?flat_settings=true")["nodes"]
    assert [node["settings"]["indexing_pressure.memory.limit"] for node in nodes.values()] == ["300kb"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(server.ca_path))),
        ).open(server.url, timeout=30)
    assert server.password_file.stat().st_mode & 0o077 == 0


def test_elasticsearch_never_runs_as_root(elasticsearch: ElasticsearchServer) -> None:
    if not Path("/proc").exists():
        pytest.skip("tells the owner of a process by /proc")
    assert Path(f"/proc/{elasticsearch.pid}").stat().st_uid != 0


def test_an_object_put_into_the_bucket_is_announced_to_its_queue(make_queue: Callable[[], NotifiedQueue]) -> None:
    made = make_queue()
    boto3.client("s3").put_object(Bucket=made.bucket, Key="a folder/b=c.gz", Body=b"x")
    received = boto3.client("sqs").receive_message(QueueUrl=made.queue_url, WaitTimeSeconds=10)["Messages"]
    assert [record["s3"]["object"]["key"] for record in json.loads(received[0]["Body"])["Records"]] == [
        "a+folder/b%3Dc.gz"
    ]


def test_a_new_queue_is_empty(make_queue: Callable[[], NotifiedQueue]) -> None:
    made = make_queue()
    assert "Messages" not in boto3.client("sqs").receive_message(QueueUrl=made.queue_url, WaitTimeSeconds=1)


def test_messages_outlive_a_clean_stop_even_when_the_port_changes(make_home: Callable[[], Path]) -> None:
    home = make_home()
    with AwsEmulator(home) as emulator:
        emulator.create_notified_bucket("kept", "kept")
        before = emulator.port
        _client("s3", emulator).put_object(Bucket="kept", Key="key", Body=b"x")
        _wait_for_a_message(emulator, "kept")
    with AwsEmulator(home, port=_another_port(before)) as emulator:
        assert emulator.port != before
        queue_url = emulator.create_notified_bucket("kept", "kept")
        assert f":{emulator.port}/" in queue_url
        assert _client("s3", emulator).get_object(Bucket="kept", Key="key")["Body"].read() == b"x"
        _wait_for_a_message(emulator, "kept")


def test_a_killed_emulator_is_set_up_again_with_its_objects(make_home: Callable[[], Path]) -> None:
    with AwsEmulator(make_home()) as emulator:
        emulator.create_notified_bucket("kept", "kept")
        _client("s3", emulator).put_object(Bucket="kept", Key="before", Body=b"x")
        emulator.kill()
        emulator.start().create_notified_bucket("kept", "kept")
        assert _client("s3", emulator).get_object(Bucket="kept", Key="before")["Body"].read() == b"x"
        _client("s3", emulator).put_object(Bucket="kept", Key="after", Body=b"x")
        assert "after" in _wait_for_a_message(emulator, "kept")


def test_the_emulator_sees_nothing_of_the_users_aws_settings(
    make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc").exists():
        pytest.skip("reads the environment of a process in /proc")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "precious")
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-is-not-there")
    with AwsEmulator(make_home()) as emulator:
        emulator.create_notified_bucket("made", "made")
        environment = Path(f"/proc/{emulator.pid}/environ").read_bytes()
    assert b"GATEWAY_PORT" in environment
    assert b"precious" not in environment
    assert os.environ["HOME"].encode() + b"\0" not in environment


def _client(service: str, emulator: AwsEmulator) -> Any:
    environment = emulator.environment()
    return boto3.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
    ).client(service, endpoint_url=emulator.url)  # type: ignore[call-overload]


def _wait_for_a_message(emulator: AwsEmulator, queue: str) -> str:
    """The body of a message of the queue, which becomes visible again at once."""
    received = _client("sqs", emulator).receive_message(
        QueueUrl=emulator.queue_url(queue), WaitTimeSeconds=10, VisibilityTimeout=0
    )
    return str(received["Messages"][0]["Body"])


def _another_port(port: int) -> int:
    found = free_port()
    return found if found != port else free_port()
