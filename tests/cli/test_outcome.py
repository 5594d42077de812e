"""What a job says of what it set aside: by reason, with an example, the cure, the place, and an exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import typer.main
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from beam_flowlogs import run
from beam_flowlogs.cli import app, job
from beam_flowlogs.outcome import Outcome, SetAside
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.sqs_queue import SqsQueue
from beam_flowlogs.transforms import acknowledge, list_objects, read_notifications
from tests.fake_sqs import FakeSqs

URL = "https://sqs.eu-west-1.amazonaws.com/1/q"
RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "40"})
FORBIDDEN = SetAside("notification", "bucket-not-allowed", 35, "s3://my-lgs/k is in a bucket ...", ("my-lgs", "other"))
GONE = SetAside("object", "object-missing", 2, "s3://logs/k is gone; restore it", ("logs",))


@pytest.fixture(autouse=True)
def _elasticsearch_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "check_set_up", lambda client: None)


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run `flowlogs drain` with a job that ends with this outcome."""

    def invoke(outcome: Outcome | BaseException, *arguments: str) -> Any:
        def drain(*_: object, **__: object) -> Outcome:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(run, "drain", drain)
        given = ["--queue-url", URL, "--bucket", "logs", "--dead-letter", str(tmp_path)]
        return RUN.invoke(app, ["drain", *given, *arguments])

    return invoke


def _message(bucket: str, key: str) -> str:
    record = {
        "eventVersion": "2.1",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}},
    }
    return json.dumps({"Records": [record]})


def test_without_rejects_a_job_ends_with_0_and_warns_of_nothing(drained: Callable[..., Any]) -> None:
    result = drained(Outcome(messages_received=3, rollups_created=7))

    assert result.exit_code == 0
    assert "roll-ups created" in result.stdout
    assert result.stderr == ""


def test_a_wrong_bucket_is_summed_up_once_with_its_name_its_number_and_a_cure_that_can_be_pasted(
    drained: Callable[..., Any], tmp_path: Path
) -> None:
    result = drained(Outcome(messages_rejected=35, set_aside=(FORBIDDEN,)))

    assert result.exit_code == 4
    assert result.stderr.count("Warning") == 1
    assert "35 notification bucket-not-allowed, in bucket my-lgs, other" in result.stderr
    cure = next(line for line in result.stderr.splitlines() if " replay " in line)
    assert shlex.split(cure)[-9:] == [
        "replay", "--dead-letter", str(tmp_path), "--bucket", "my-lgs", "--bucket", "other", "--reason",
        "bucket-not-allowed",
    ]  # fmt: skip


def test_rejects_are_told_by_reason_with_an_example_and_what_to_do(drained: Callable[..., Any], tmp_path: Path) -> None:
    outcome = Outcome(objects_rejected=2, set_aside=(GONE,))
    result = drained(outcome, "--rollup-window", "60s,1h", "--format", "version srcaddr")

    assert result.exit_code == 4
    assert f"set aside in {tmp_path}: 2 rejects" in result.stderr
    assert "  2 object object-missing, such as: s3://logs/k is gone; restore it" in result.stderr.splitlines()
    cure = result.stderr.splitlines()[-1].partition("mended: ")[2]
    words = shlex.split(cure)
    arguments = words[words.index("replay") + 1 :]
    command = cast(Any, typer.main.get_command(app)).commands["replay"].make_context("replay", arguments)
    assert command.params["rollup_window"] == "60s,3600s"
    assert command.params["text_format"] == "version srcaddr"
    assert command.params["bucket"] == ["logs"]


def test_a_runner_that_tells_no_reasons_still_ends_with_4(drained: Callable[..., Any]) -> None:
    assert drained(Outcome(rejects=1)).exit_code == 4


def test_as_json_what_was_set_aside_is_data(drained: Callable[..., Any]) -> None:
    result = drained(Outcome(objects=9, set_aside=(GONE,)), "--json")

    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert found["objects"] == 9
    assert found["set_aside"] == [
        {
            "stage": "object",
            "reason": "object-missing",
            "count": 2,
            "example": "s3://logs/k is gone; restore it",
            "buckets": ["logs"],
        }
    ]


def test_a_value_error_of_a_worker_is_no_wrong_argument(drained: Callable[..., Any]) -> None:
    worker = "Traceback ...\nValueError: 'x' is broken [while running 'Index']"
    result = drained(ValueError(worker))

    assert result.exit_code == 1
    assert result.stderr == "Error: ValueError: 'x' is broken\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RuntimeError("Traceback ...\nKeyboardInterrupt")])
def test_an_interruption_is_no_failure(drained: Callable[..., Any], interruption: BaseException) -> None:
    result = drained(interruption)

    assert result.exit_code == 130
    assert "interrupted: nothing is lost" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drain", "--queue-url", URL, "--bucket", "logs"], "The queue is empty, or its messages are with another job"),
        (["backfill", "s3://logs/a", "s3://logs/b"], "There are no objects below s3://logs/a, s3://logs/b"),
        (["replay", "--bucket", "logs"], "There are no such dead letters in "),
    ],
)
def test_a_job_that_finds_nothing_says_where_it_has_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(run, arguments[0], lambda *_, **__: Outcome())
    result = RUN.invoke(app, [*arguments, "--dead-letter", str(tmp_path)])

    assert result.exit_code == 0
    assert result.stdout.startswith(message)


def test_a_place_for_dead_letters_that_cannot_be_written_is_found_before_the_job_begins(
    drained: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = drained(AssertionError("the job has begun"), "--dead-letter", str(tmp_path / "file" / "x"))

    assert result.exit_code == 1
    assert f"cannot be written to {tmp_path}/file/x" in result.stderr
    assert "--dead-letter" in result.stderr


def test_workers_elsewhere_need_a_place_for_dead_letters_that_is_not_relative(drained: Callable[..., Any]) -> None:
    job_ends = Outcome()
    refused = drained(job_ends, "--runner=FlinkRunner", "--dead-letter", "dead-letters")
    taken = drained(job_ends, "--runner=FlinkRunner", "--dead-letter", "s3://b/dead")

    assert refused.exit_code == 2
    assert "Give s3://bucket/prefix" in refused.stderr
    assert taken.exit_code == 0


def test_a_drain_tells_the_buckets_that_it_was_not_allowed_to_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sqs = FakeSqs()
    for at in range(25):
        sqs.send(_message("my-lgs" if at % 5 else "other", f"k{at}"))
    sqs.send("no JSON")
    sqs.send('{"Event": "s3:TestEvent"}')
    queue = SqsQueue(cast(Any, sqs), URL, retry_for=0)
    monkeypatch.setattr(read_notifications, "connect_queue", lambda *_: queue)
    monkeypatch.setattr(acknowledge, "connect_queue", lambda *_: queue)

    result = RUN.invoke(
        app,
        ["drain", "--queue-url", URL, "--bucket", "logs", "--dead-letter", str(tmp_path), "--limit", "10", "--json"],
    )

    assert result.exit_code == 4, result.output
    found = json.loads(result.stdout)
    assert (found["messages_received"], found["messages_deleted"], found["messages_rejected"]) == (27, 27, 26)
    groups = {group["reason"]: (group["count"], group["buckets"]) for group in found["set_aside"]}
    assert groups == {"bucket-not-allowed": (25, ["my-lgs", "other"]), "not-json": (1, [])}
    assert "run with --bucket my-lgs" in found["set_aside"][0]["example"]
    assert result.stderr.count("Warning") == 1
    assert len(list(DeadLetters(str(tmp_path)).read())) == 26
    assert len(sqs) == 0


def test_a_bucket_that_is_not_there_ends_a_backfill_with_its_name_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Client:
        def list_objects_v2(self, **_: object) -> None:
            answer: Any = {
                "Error": {"Code": "NoSuchBucket", "Message": "The specified bucket does not exist"},
                "ResponseMetadata": {"HTTPStatusCode": 404},
            }
            raise ClientError(answer, "ListObjectsV2")

    monkeypatch.setattr(list_objects, "s3_client", Client)
    result = RUN.invoke(app, ["backfill", "s3://my-lgs/AWSLogs/", "--dead-letter", str(tmp_path)])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: bucket-missing: s3://my-lgs/AWSLogs/: ")
    assert "check the bucket's name" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_rounds_together_are_the_sum_of_both() -> None:
    more = SetAside("notification", "bucket-not-allowed", 1, "", ("third",))
    both = Outcome(objects=1, set_aside=(GONE, FORBIDDEN)).plus(Outcome(objects=2, set_aside=(more,)))

    assert both.objects == 3
    assert [group.count for group in both.set_aside] == [36, 2]
    assert both.set_aside[0].buckets == ("my-lgs", "other", "third")
    assert both.set_aside[0].example == FORBIDDEN.example


def test_dead_letters_that_stay_are_rejects_and_none_are_not() -> None:
    assert Outcome(dead_letters_kept=1).has_rejects
    assert not Outcome(duplicates=5, messages_expired=1).has_rejects
