"""Options that go to Beam: the ones that the docs print are taken, and a mistyped one is refused."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from beam_flowlogs.beam_options import is_local, runner_of, take_beam_args
from beam_flowlogs.cli import app
from beam_flowlogs.cli.beam_command import BeamCommand
from beam_flowlogs.cli.options import check_dead_letter

RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "200", "TERMINAL_WIDTH": "200"})
ROOT = Path(__file__).parents[2]
GROUP: Any = typer.main.get_command(app)
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/flow-logs"
DRAIN = ["drain", "--queue-url", URL, "--bucket", "b"]


def _printed() -> list[str]:
    """Every whole command line of a job that the pages and the programs print."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("pipelines/*.py")]
    jobs = "drain|backfill|stream|replay|rejects|verify|generate|prune"
    shown = rf"^ *(?:flowlogs|python -m pipelines\.|`python -m pipelines\.) ?({jobs})\b([^#`\n]*)"
    lines = {
        f"{job} {arguments.strip()}"
        for page in pages
        for job, arguments in re.findall(shown, page.read_text(), re.MULTILINE)
    }
    return sorted(line for line in lines if "[OPTIONS]" not in line)


def _parse(line: str) -> Any:
    name, *arguments = shlex.split(line.replace(" ...", ""))
    command = GROUP.commands[name]
    return command.make_context(name, [arg.replace("$FLOWLOGS_QUEUE_URL", URL) for arg in arguments])


def test_the_pages_print_commands() -> None:
    assert len(_printed()) > 15
    assert any("--runner=FlinkRunner" in line for line in _printed())


@pytest.mark.parametrize("line", _printed())
def test_a_command_that_is_printed_is_taken_as_it_is(line: str) -> None:
    context = _parse(line)

    beam = [word for word in shlex.split(line) if re.match(r"--(runner|flink_master)", word)]
    assert (context.args if isinstance(context.command, BeamCommand) else []) == beam
    if beam and not is_local(runner_of(beam)):
        check_dead_letter(context.params["dead_letter"], "the runner")


@pytest.mark.parametrize(
    "beam",
    [
        ["--runner=FlinkRunner", "--flink_master=flink:8081"],
        ["--runner", "FlinkRunner", "--flink_master", "flink:8081"],
        ["--runner=PortableRunner", "--job_endpoint=localhost:8099", "--checkpointing_interval=5000"],
        ["--direct_num_workers=2", "--direct_running_mode", "multi_processing", "--no_pipeline_type_check"],
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_options_of_beam_are_no_locations_wherever_they_stand(beam: list[str], first: bool) -> None:
    own = ["s3://a/b", "s3://c", "--json"]
    context = GROUP.commands["backfill"].make_context("backfill", beam + own if first else own + beam)

    assert context.params["urls"] == ["s3://a/b", "s3://c"]
    assert context.params["as_json"]
    assert context.args == beam


def test_an_option_of_beam_is_not_taken_for_what_stream_shall_do() -> None:
    context = GROUP.commands["stream"].make_context("stream", ["--state_backend=rocksdb", "--environment_type=DOCKER"])

    assert context.params["action"].value == "start"
    assert context.args == ["--state_backend=rocksdb", "--environment_type=DOCKER"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["drain", "--queue-url", URL, "--bucket", "b", "--dead-leter", "x"],
            "--dead-leter; did you mean --dead-letter?",
        ),
        ([*DRAIN, "--runer=FlinkRunner"], "--runer; did you mean --runner?"),
        ([*DRAIN, "surplus"], "unexpected extra argument"),
        (["backfill", "s3://b", "--max_ratio=3"], "--max_ratio; did you mean --max-ratio?"),
        (["backfill", "s3://b", "--parallelism=two"], "invalid int value: 'two'"),
        (["backfill", "s3://b", "--runner"], "--runner: expected one argument"),
        (["backfill", "s3://b", "--checkpointing_interval=5"], "FnApiRunner would not heed it"),
        (["replay", "--bucket", "b", "--what-is-this"], "no such option: --what-is-this"),
        (["replay", "--bucket", "b", "--rules", "mine.toml"], "no such option: --rules"),
        (["replay", "--bucket", "b", "surplus"], "unexpected extra argument"),
        (["stream", "status", "surplus"], "unexpected extra argument"),
        (["stream", "--shard=3"], "--shard; did you mean --shards?"),
    ],
)
def test_what_neither_the_command_nor_beam_knows_is_refused_by_name(arguments: list[str], message: str) -> None:
    result = RUN.invoke(app, arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_arguments_keep_their_order_and_a_double_dash_ends_the_options() -> None:
    assert take_beam_args(["--own=--runner", "a", "--runner=X", "b"], ["--own"]) == (
        ["--own=--runner", "a", "b"],
        ["--runner=X"],
    )
    assert take_beam_args(["a", "--", "b"], []) == (["a", "--", "b"], [])


@pytest.mark.parametrize(
    ("arguments", "runner", "local"),
    [
        ([], "FnApiRunner", True),
        (["--runner=DirectRunner"], "DirectRunner", True),
        (["--runner", "PrismRunner"], "PrismRunner", True),
        (["--runner=FlinkRunner"], "FlinkRunner", False),
        (["--runner=apache_beam.runners.direct.DirectRunner"], "apache_beam.runners.direct.DirectRunner", True),
        (["--runner=DataflowRunner"], "DataflowRunner", False),
    ],
)
def test_a_runner_is_known_to_work_here_or_elsewhere(arguments: list[str], runner: str, local: bool) -> None:
    assert runner_of(arguments) == runner
    assert is_local(runner) is local
