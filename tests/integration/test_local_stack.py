"""`flowlogs local`, for real: what a user does with it, and what must be left when it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli.errors import NOT_UP
from beam_flowlogs.cli.local import app
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.process import Process
from beam_flowlogs.local.stack import Stack

pytestmark = pytest.mark.integration


class User:
    """Somebody who runs `flowlogs local` in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *arguments: str, exit_code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--home", str(self.home)])
        assert result.exit_code == exit_code, result.output
        return result

    def up(self, *arguments: str) -> Any:
        return self.run("up", "--heap", "512m", *arguments)

    def status(self, exit_code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json", exit_code=exit_code).stdout)
        return found

    def processes(self) -> list[Process]:
        status = self.status()
        return [Process.of(status[name]["pid"]) for name in ("elasticsearch", "aws")]

    def client(self, service: str) -> Any:
        environment = self.status()["environment"]
        return boto3.Session(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        ).client(service, endpoint_url=environment["AWS_ENDPOINT_URL"])  # type: ignore[call-overload]

    def announced(self) -> list[str]:
        """The keys that the queue announces; they stay in the queue."""
        queue_url = self.status()["environment"]["FLOWLOGS_QUEUE_URL"]
        received = self.client("sqs").receive_message(
            QueueUrl=queue_url, WaitTimeSeconds=5, VisibilityTimeout=0, MaxNumberOfMessages=10
        )
        bodies = [json.loads(message["Body"]) for message in received.get("Messages", [])]
        return [record["s3"]["object"]["key"] for body in bodies for record in body["Records"]]

    def document(self, method: str = "GET") -> Any:
        """Read the one document of this test, or write it; None when it is not there."""
        url = self.status()["environment"]["ELASTICSEARCH_URL"] + "/kept/_doc/1"
        request = urllib.request.Request(url, b'{"a": 1}' if method == "PUT" else None, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None


@pytest.fixture
def user(make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    monkeypatch.delenv("ELASTICSEARCH_URL", raising=False)
    home = make_home()
    yield User(home)
    Stack(home, elasticsearch_url="").down()


def test_up_works_down_leaves_nothing_running_and_the_data_stays_until_a_fresh_up(user: User) -> None:
    user.run("status", exit_code=NOT_UP)
    user.run("env", exit_code=NOT_UP)

    user.up()
    first, environment = user.processes(), user.status()["environment"]
    user.client("s3").put_object(Bucket=environment["FLOWLOGS_BUCKET"], Key="key", Body=b"x")
    assert user.announced() == ["key"]
    user.document("PUT")

    assert "Already up" in user.up().stderr
    assert user.processes() == first
    exports = user.run("env").stdout
    assert f"export FLOWLOGS_QUEUE_URL={environment['FLOWLOGS_QUEUE_URL']}\n" in exports

    user.run("down")
    assert [process.alive() for process in first] == [False, False]
    assert not user.status(exit_code=NOT_UP)["up"]
    assert "Nothing was running" in user.run("down").stderr

    user.up()
    assert user.status()["environment"] == environment
    assert user.announced() == ["key"]
    assert user.document()["_source"] == {"a": 1}

    user.up("--fresh")
    assert user.status()["environment"] == environment
    assert user.announced() == []
    assert user.client("s3").list_objects_v2(Bucket=environment["FLOWLOGS_BUCKET"])["KeyCount"] == 0
    assert user.document() is None


def test_a_stack_with_a_dead_part_is_healed_by_two_ups_at_once_and_has_one_of_each_after(user: User) -> None:
    user.up()
    user.document("PUT")
    elasticsearch, aws = user.processes()
    elasticsearch.kill()
    status = user.status(exit_code=NOT_UP)
    assert (status["elasticsearch"]["state"], status["aws"]["state"]) == ("stopped", "running")

    with ThreadPoolExecutor() as pool:
        infos = list(pool.map(lambda _: Stack(user.home, heap="512m").up(), range(2)))
    assert infos[0] == infos[1]
    assert user.processes()[1] == aws
    assert user.document()["_source"] == {"a": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_an_interrupted_up_leaves_no_process_behind(user: User, number: signal.Signals) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's `&` ignores it
    code += "from beam_flowlogs.cli.local import app; app()"
    child = subprocess.Popen([sys.executable, "-c", code, "up", "--home", str(user.home)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not _processes_that_mention(user.home / "elasticsearch"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # a signal that comes while Popen itself is under way finds a child that nobody knows yet
    child.send_signal(number)
    assert child.wait(60) != 0
    assert _processes_that_mention(user.home) == []


def _processes_that_mention(folder: Path) -> list[str]:
    listing = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in listing if f"{folder}/" in line]


def test_an_elasticsearch_of_the_users_own_is_used_and_left_alone(
    user: User, elasticsearch: ElasticsearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch.url)
    user.up()
    status = user.status()
    assert status["elasticsearch"] == {"state": "external", "url": elasticsearch.url, "pid": None}
    assert status["environment"]["ELASTICSEARCH_URL"] == elasticsearch.url
    user.run("down")
    assert elasticsearch.running
