"""`flowlogs stream`: what a person sees before anything runs, and how it talks to Flink."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.flink_options import FlinkOptions
from beam_flowlogs.flink_rest import Distribution, FlinkError, FlinkRest, JobAt

RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "200"})
STREAM = ["stream", "--queue-url", "http://127.0.0.1:1/q", "--bucket", "b"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["stream", "--bucket", "b"], 2, "--queue-url"),
        ([*STREAM], 2, "--job-endpoint"),
        (["stream", "status"], 2, "--flink-url"),
        (["stream", "stop", "--flink-url", "http://127.0.0.1:1"], 1, "Flink does not answer at http://127.0.0.1:1"),
    ],
)
def test_what_is_missing_is_one_line_with_the_cure(arguments: list[str], code: int, message: str) -> None:
    result = RUN.invoke(app, arguments)

    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_job_is_told_by_its_options() -> None:
    arguments = FlinkOptions("host:8099", "pool:50000", "mine", 3, 2.5, "file:/save/point").beam_args()

    assert {
        "--runner=PortableRunner",
        "--job_endpoint=host:8099",
        "--environment_type=EXTERNAL",
        "--environment_config=pool:50000",
        "--job_name=mine",
        "--parallelism=3",
        "--checkpointing_interval=2500",
        "--savepoint_path=file:/save/point",
        "--allow_non_restored_state",
    } <= set(arguments)
    assert not any("environment" in argument for argument in FlinkOptions("host:8099").beam_args())


class FakeFlink:
    """Answers what it is told to, by method and path, and keeps what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []

    def jobs(self, *states: str) -> None:
        jobs = [
            {"jid": f"job-{number}", "name": "flowlogs", "state": state, "start-time": number}
            for number, state in enumerate(states)
        ]
        self.answers["GET /jobs/overview"] = {"jobs": [*jobs, {**jobs[0], "name": "other", "state": "RUNNING"}]}


@pytest.fixture
def flink() -> Iterator[FakeFlink]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            asked = f"{self.command} {self.path}"
            fake.asked.append((asked, json.loads(self.rfile.read(size)) if size else None))
            known = asked in fake.answers
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(fake.answers[asked] if known else {"errors": ["no such thing"]}).encode())

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake = FakeFlink(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield fake
        server.shutdown()


def test_the_job_that_runs_is_found_among_those_that_are_over_and_those_of_others(flink: FakeFlink) -> None:
    flink.jobs("CANCELED", "RUNNING", "FAILED")

    assert FlinkRest(flink.url).running("flowlogs").id == "job-1"
    assert [job.id for job in FlinkRest(flink.url).jobs("flowlogs")] == ["job-2", "job-1", "job-0"]


@pytest.mark.parametrize(
    ("states", "is_stopped"),
    [
        (("FAILED", "RUNNING"), True),  # with a savepoint, until it is made and all workers have ended
        (("CANCELLING",), True),
        (("FINISHED",), True),
        (("RUNNING", "RESTARTING"), False),
        (("FAILING",), False),
    ],
)
def test_a_worker_learns_whether_its_job_ends_for_good(
    flink: FakeFlink, states: tuple[str, ...], is_stopped: bool
) -> None:
    flink.jobs(*states)

    assert JobAt(flink.url, "flowlogs").is_stopped(10) == is_stopped
    assert not JobAt(flink.url, "unknown").is_stopped(10)


@pytest.mark.parametrize(
    ("states", "message"), [(("CANCELED",), "no job of the name"), (("RUNNING", "CREATED"), "2 jobs")]
)
def test_no_job_or_several_are_an_error(flink: FakeFlink, states: tuple[str, ...], message: str) -> None:
    flink.jobs(*states)

    with pytest.raises(FlinkError, match=message):
        FlinkRest(flink.url).running("flowlogs")


def test_a_job_that_flink_does_not_know_is_one_line(flink: FakeFlink) -> None:
    flink.jobs("RUNNING")

    result = RUN.invoke(app, ["stream", "status", "--flink-url", flink.url, "--job-name", "unknown"])
    assert result.exit_code == 2
    assert "knows no job 'unknown'" in result.stderr


def test_a_stop_with_a_savepoint_waits_for_it_and_never_drains(flink: FakeFlink) -> None:
    flink.answers |= {
        "POST /jobs/job-1/stop": {"request-id": "t"},
        "GET /jobs/job-1/savepoints/t": {"status": {"id": "COMPLETED"}, "operation": {"location": "file:/s"}},
        "GET /jobs/job-1": {"state": "FINISHED"},
    }

    assert FlinkRest(flink.url).stop("job-1", "file:/here") == "file:/s"
    assert flink.asked[0] == ("POST /jobs/job-1/stop", {"drain": False, "targetDirectory": "file:/here"})


def test_a_savepoint_that_fails_is_an_error_with_its_cause(flink: FakeFlink) -> None:
    flink.answers |= {
        "POST /jobs/job-1/stop": {"request-id": "t"},
        "GET /jobs/job-1/savepoints/t": {
            "status": {"id": "COMPLETED"},
            "operation": {"failure-cause": {"class": "X", "stack-trace": "No space left\n\tat"}},
        },
    }

    with pytest.raises(FlinkError, match=r"No space left$"):
        FlinkRest(flink.url).stop("job-1")


def test_what_flink_refuses_is_said_in_its_words(flink: FakeFlink) -> None:
    with pytest.raises(FlinkError, match="404 no such thing"):
        FlinkRest(flink.url).checkpoints("job-1")


def test_metrics_are_added_up_over_the_subtasks_of_every_step(flink: FakeFlink) -> None:
    names = [f"{subtask}.step.flowlogs_{name}" for subtask in (0, 1) for name in ("documents", "bulk_ms")]
    path = "/jobs/job-1/vertices/v/metrics"
    flink.answers |= {
        "GET /jobs/job-1": {"vertices": [{"id": "v"}]},
        f"GET {path}": [{"id": name} for name in [*names, "0.step.numRecordsIn"]],
        f"GET {path}?get={quote(','.join(names))}": [
            {"id": names[0], "value": "7"},
            {"id": names[1], "value": "DistributionResult{sum=10, count=2, min=4, max=6}"},
            {"id": names[2], "value": "5"},
            {"id": names[3], "value": "DistributionResult{sum=1, count=1, min=1, max=1}"},
        ],
    }

    metrics = FlinkRest(flink.url).metrics("job-1", "flowlogs_")

    assert metrics.counters == {"documents": 12}
    assert metrics.distributions == {"bulk_ms": Distribution(total=11, times=3, least=1, most=6)}


def test_a_job_that_fails_to_start_says_why_and_older_ones_are_left_aside(flink: FakeFlink) -> None:
    flink.jobs("FAILED", "FAILED")
    trace = (
        "X: first\n\tat a\nCaused by: java: Error received from SDK harness: Traceback:\n  File\nKeyError: 1\n\tat b"
    )
    flink.answers["GET /jobs/job-1/exceptions"] = {"exceptionHistory": {"entries": [{"stacktrace": trace}]}}
    older = [job for job in FlinkRest(flink.url).jobs("flowlogs") if job.id == "job-0"]

    with pytest.raises(FlinkError, match=r"it is FAILED: KeyError: 1$"):
        FlinkRest(flink.url).wait_until_running("flowlogs", 5, older)
