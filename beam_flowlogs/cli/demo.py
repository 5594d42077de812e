"""`flowlogs demo`: the whole way once, on this machine, with synthetic flow logs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

from beam_flowlogs.cli.errors import interrupted_when_terminated, one_line_errors, wrong_arguments
from beam_flowlogs.cli.wording import command, program
from beam_flowlogs.local.stack import FOREIGN_AWS_VARIABLES, Stack

_KIND = ("--version", "5")
"""Of AWS's formats a richer one: with TCP flags and directions, which the roll-ups show."""

_console = Console(stderr=True, highlight=False)


def demo(
    records: Annotated[int, typer.Option(min=1, help="Flow log records to generate.")] = 200_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the local stack running at the end.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="New or empty folder for the stack's data; default: a temporary one.")
    ] = None,
) -> None:
    """Show the whole way on this machine: start the stack, generate, upload, index, look, prove, stop.

    Each step is a command that you can run yourself; it is printed before it runs. Every demo has a stack and a folder
    of its own, and touches no other. Without --keep the stack is stopped at the end, and a temporary folder deleted.
    """
    with wrong_arguments():
        folder = _new_folder(home)
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN_AWS_VARIABLES}
    here = ["--home", str(folder)]
    done = False
    try:
        with one_line_errors(), interrupted_when_terminated():
            _show(folder, here, records, variables)
        done = True
    finally:
        if not (done and keep):
            _step("Stop the stack", ["local", "down", *here], variables)
        if not done:
            _say(f"What it left, its logs too, is in {folder}")
        elif not keep and home is None:
            shutil.rmtree(folder)
    if keep:
        _console.print(Rule("The stack is left running", align="left"))
        _say(f'Use it:   export FLOWLOGS_HOME={shlex.quote(str(folder))}; eval "$({program()} local env)"')
        _say(f"Stop it:  {command('local', 'down', home=folder)}; rm -r {shlex.quote(str(folder))}")
    else:
        _say("The stack is stopped. To look around in one that stays: make demo KEEP=1")


def _show(folder: Path, here: Sequence[str], records: int, variables: dict[str, str]) -> None:
    _step("Start Elasticsearch and the S3/SQS emulator", ["local", "up", *here], variables)
    info = Stack(folder).info()
    variables |= info.environment()
    _step("Create the index templates", ["setup"], variables)
    _step(
        "Generate flow logs and upload them; S3 notifies the queue",
        ["generate", f"s3://{info.bucket}", *_KIND, "--records", str(records), "--truth", str(folder / "truth.json")],
        variables,
    )
    rejects = str(folder / "dead-letters")
    _step(
        "Run the pipeline until the queue is empty",
        ["drain", "--queue-url", info.queue_url, "--bucket", info.bucket, "--dead-letter", rejects],
        variables,
    )
    _step("See what is in Elasticsearch now", ["summary"], variables)
    _step("See what the alert rules found: the generator has put incidents in", ["alerts"], variables)
    _step("Prove that every roll-up is the sum of its raw documents", ["verify"], variables)


def _new_folder(home: Path | None) -> Path:
    """Return a folder that nobody uses. Raises ValueError for one that holds anything: it could be a kept stack."""
    if home is None:
        return Path(tempfile.mkdtemp(prefix="beam-flowlogs-demo-"))
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ValueError(
            f"{home} is not empty, and may hold a stack that was kept: give a new folder, or leave --home out. To stop "
            f"such a stack: {command('local', 'down', home=home.absolute())}"
        )
    return home.absolute()


def _step(title: str, arguments: Sequence[str], variables: dict[str, str]) -> None:
    _console.print(Rule(title, align="left"))
    _say(f"$ {command(*arguments)}")
    done = subprocess.run([sys.executable, "-m", "beam_flowlogs.cli", *arguments], env=variables, check=False)  # noqa: S603
    if done.returncode:
        raise typer.Exit(done.returncode)


def _say(line: str) -> None:
    """Print a line that is not broken however narrow the terminal is: it is there to be copied."""
    _console.print(escape(line), soft_wrap=True)
