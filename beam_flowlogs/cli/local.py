"""`flowlogs local`: the local stack, an Elasticsearch, an S3/SQS emulator and a Flink on the loopback interface."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from beam_flowlogs.cli.errors import FAILED, NOT_UP, interrupted_when_terminated, say_error, wrong_arguments
from beam_flowlogs.cli.wording import command
from beam_flowlogs.local.elasticsearch import check_heap
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.stack import Stack, StackInfo

app = typer.Typer(
    rich_markup_mode="markdown",
    help="Run Elasticsearch, an S3/SQS emulator and Flink on this machine, to try things out.",
    no_args_is_help=True,
)

Home = Annotated[
    Path | None,
    typer.Option(
        envvar="FLOWLOGS_HOME",
        help="Folder for everything that the stack keeps. Default: ~/.local/state/beam-flowlogs "
        "(root: /var/lib/beam-flowlogs).",
    ),
]


@app.command()
def up(
    home: Home = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of earlier runs first.")] = False,
    heap: Annotated[str, typer.Option(help="Memory of Elasticsearch's heap, such as 512m or 2g.")] = "1g",
    flink: Annotated[
        bool, typer.Option("--flink", help="Start a Flink too, which `flowlogs stream` runs on; it takes 2 GB.")
    ] = False,
) -> None:
    """Start what is not running yet, and print the environment variables that lead there.

    The first time, Elasticsearch is downloaded (1 GB) into the user's cache, and with --flink
    Flink and Beam's job server (400 MB). When ELASTICSEARCH_URL is set, that
    one is used and none is started. Data is kept until the next `up --fresh`.
    """
    with wrong_arguments():
        check_heap(heap)
    with _errors(), interrupted_when_terminated():
        stack = Stack(home, heap=heap, waiting=lambda: _say("Waiting for another `flowlogs local` to finish ..."))
        before = stack.status()
        already = not fresh and before.up and (not flink or any(part.up for part in before.flink.values()))
        with _progress() as progress:
            info = stack.up(fresh, progress, flink=flink)
        yours = " (yours, as ELASTICSEARCH_URL says)" if stack.status().elasticsearch.state == "external" else ""
        _say(f"{'Already up' if already else 'Up'}. Elasticsearch: {info.elasticsearch_url}{yours}")
        _say(f"Objects put into s3://{info.bucket} are announced in the queue {info.queue_url}")
        _say(f'Take these variables over with: eval "$({command("local", "env", home=stack.home)})"')
        typer.echo(info.shell())


@app.command()
def env(home: Home = None) -> None:
    """Print the environment variables of the running stack, for `eval "$(flowlogs local env)"`. Exit code 3: not up."""
    with _errors():
        stack = Stack(home)
        if not stack.status().up:
            _say(f"The local stack is not up: start it with `{command('local', 'up', home=stack.home)}`")
            raise typer.Exit(NOT_UP)
        typer.echo(stack.info().shell())


@app.command()
def status(
    home: Home = None, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False
) -> None:
    """Say how the stack is. Exit code 0: all of it is up; 3: it is not, or not all of it."""
    with _errors():
        stack = Stack(home)
        found = stack.status()
        info = stack.info() if found.up else None
        if as_json:
            parts = {"elasticsearch": found.elasticsearch, "aws": found.aws, **found.flink}
            described = {name: dataclasses.asdict(part) for name, part in parts.items()}
            typer.echo(json.dumps({"up": found.up, **described, "environment": info.environment() if info else {}}))
        else:
            _print_status("Elasticsearch", dataclasses.astuple(found.elasticsearch))
            _print_status("S3 and SQS", dataclasses.astuple(found.aws))
            for name, part in found.flink.items():
                _print_status(name, dataclasses.astuple(part))
            if info:
                _print_demo(info)
        if not found.up:
            raise typer.Exit(NOT_UP)


@app.command()
def down(home: Home = None) -> None:
    """Stop what `up` has started, in order; the data stays for the next `up`."""
    with _errors():
        stopped = Stack(home).down()
        _say("Stopped." if stopped else "Nothing was running.")
        if stopped:
            names = " ".join([*Stack(home).info().environment(), "FLOWLOGS_HOME"])
            _say(f"A shell that took the variables over gets rid of them with: unset {names}")


def _print_status(name: str, part: tuple[str, str, int | None]) -> None:
    state, url, pid = part
    typer.echo(f"{name:<21} {state:<14} {url}{f'  pid {pid}' if pid else ''}")


def _print_demo(info: StackInfo) -> None:
    typer.echo(f"{'Bucket':<21} s3://{info.bucket}")
    typer.echo(f"{'Queue':<21} {info.queue_url}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _say(text: str) -> None:
    """What is meant for people goes to stderr: stdout is for `eval` and for programs."""
    typer.echo(text, err=True)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of the local stack end the command with their message and exit code 1."""
    try:
        yield
    except LocalStackError as error:
        say_error(str(error))
        raise typer.Exit(FAILED) from error
