"""`flowlogs drain` and `backfill`: what a person sees before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli import app

RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "200"})
DRAIN = ["drain", "--queue-url", "http://127.0.0.1:1/q"]
SQS = "https://sqs.eu-west-1.amazonaws.com/1/q"
STREAM = ["stream", "--local", "--bucket", "b", "--queue-url", SQS]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([*DRAIN, "--bucket", "b"], {"ELASTICSEARCH_URL": ""}, "set ELASTICSEARCH_URL"),
        ([*DRAIN, "--bucket", "b", "--rollup-window", "7s"], {}, "give a length that divides a day"),
        ([*DRAIN, "--bucket", "b", "--rollup-window", "1h,60s"], {}, "the shortest first"),
        ([*DRAIN, "--bucket", "b", "--conversations", "1001"], {}, "use 0 to 1000"),
        ([*STREAM, "--allowed-lateness", "30m", "--rollup-window", "1h"], {}, "allow at least the longest window"),
        ([*STREAM, "--allowed-lateness", "2 hours"], {}, "such as 30m or 2h"),
        ([*STREAM, "--rules", "nowhere.toml"], {}, "nowhere.toml cannot be read"),
        ([*STREAM, "--webhook-url", "https://hooks.example.com/hunter2"], {}, "use env:NAME, file:/path"),
        ([*STREAM, "--alerts-topic-arn", "alerts"], {}, "give its ARN"),
        (["backfill", "my-bucket/prefix"], {}, "write s3://bucket/prefix"),
        (["backfill", "s3://logs", "--since", "yesterday"], {}, "'yesterday' is no time: write a day or a time"),
        (["backfill", "s3://logs", "--since", "1h", "--until", "2h"], {}, "nothing lies between"),
        (["verify", "--until", "soon"], {}, "'soon' is no time"),
        (["alerts", "--since", "soon"], {}, "'soon' is no time"),
        (["drain", "--bucket", "b", "--queue-url", "flow-logs"], {}, "'flow-logs' is no URL of a queue"),
        (["drain", "--bucket", "b", "--queue-url", "arn:aws:sqs:eu-west-1:1:q"], {}, "is no URL of a queue"),
        (["drain", "--bucket", "b", "--queue-url", "https://sqs.eu-west-1.amazonaws.com"], {}, "is no URL of a queue"),
        (["stream", "--local", "--bucket", "b", "--queue-url", "flow-logs"], {}, "is no URL of a queue"),
        ([*DRAIN, "--bucket", "b", "--format", "version,srcaddr"], {}, "separated by spaces"),
        (["backfill", "s3://logs", "--format", "version scraddr"], {}, "did you mean srcaddr"),
        (
            ["stream", "--job-endpoint", "flink:8099", "--bucket", "b", "--queue-url", SQS],
            {},
            "Give s3://bucket/prefix",
        ),
        ([*DRAIN, "--bucket", "b"], {"ELASTICSEARCH_URL": "https://me:hunter2@host"}, "holds credentials"),
    ],
)
def test_a_wrong_argument_is_one_line_with_the_cure_and_exit_code_2(
    arguments: list[str], environment: dict[str, str], message: str
) -> None:
    result = RUN.invoke(app, arguments, env=environment)

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "hunter2" not in result.output


def test_a_missing_option_names_itself() -> None:
    result = RUN.invoke(app, ["drain", "--bucket", "b"])

    assert result.exit_code == 2
    assert "--queue-url" in result.stderr


def test_an_elasticsearch_that_does_not_answer_is_an_error_that_names_it() -> None:
    result = RUN.invoke(app, ["setup"])

    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("program", ["drain", "backfill"])
def test_each_job_is_a_beam_program_too(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{program}", "--help"], capture_output=True, text=True, check=True
    )

    assert "--dead-letter" in done.stdout
    assert "Beam" in done.stdout
