"""`flowlogs demo`: the whole way once, on this machine, with synthetic flow logs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.rule import Rule

from beam_flowlogs.cli import options as opt
from beam_flowlogs.local.stack import FOREIGN_AWS_VARIABLES, Stack

_console = Console(stderr=True, highlight=False)


def demo(
    records: Annotated[int, typer.Option(help="Flow log records to generate.")] = 200_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the local stack running at the end.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="Folder for the stack's data; default: a folder of its own.")
    ] = None,
) -> None:
    """Show the whole way on this machine: start the stack, generate, upload, index, look, prove, stop.

    Each step is a command that you can run yourself; it is printed before it runs.
    """
    folder = home or Path(tempfile.gettempdir(), f"beam-flowlogs-demo-{os.getuid()}")
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN_AWS_VARIABLES}
    variables["FLOWLOGS_HOME"] = str(folder)
    with opt.one_line_errors():
        try:
            _step("Start Elasticsearch and the S3/SQS emulator", ["local", "up", "--fresh"], variables)
            info = Stack(folder).info()
            variables |= info.environment()
            truth = folder / "truth.json"
            _step("Create the index templates", ["setup"], variables)
            _step(
                "Generate flow logs and upload them; S3 notifies the queue",
                ["generate", f"s3://{info.bucket}", "--records", str(records), "--truth", str(truth)],
                variables,
            )
            rejects = folder / "dead-letters"
            _step(
                "Run the pipeline until the queue is empty",
                ["drain", "--queue-url", info.queue_url, "--bucket", info.bucket, "--dead-letter", str(rejects)],
                variables,
            )
            _step("See what is in Elasticsearch now", ["summary"], variables)
            _step("See what the alert rules found: the generator has put incidents in", ["alerts"], variables)
            _step("Prove that every roll-up is the sum of its raw documents", ["verify"], variables)
        except BaseException:
            _stop(variables, keep=False)
            raise
        _stop(variables, keep=keep)


def _step(title: str, arguments: Sequence[str], variables: dict[str, str]) -> None:
    _console.print(Rule(title, align="left"))
    _console.print(f"[dim]$ flowlogs {' '.join(arguments)}[/]", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "beam_flowlogs.cli", *arguments], env=variables, check=False)  # noqa: S603
    if done.returncode:
        raise typer.Exit(done.returncode)


def _stop(variables: dict[str, str], *, keep: bool) -> None:
    if keep:
        _console.print(Rule("The stack is left running", align="left"))
        _console.print(f'Use it:   export FLOWLOGS_HOME={variables["FLOWLOGS_HOME"]}; eval "$(flowlogs local env)"')
        _console.print("Stop it:  flowlogs local down", soft_wrap=True)
    else:
        _step("Stop the stack", ["local", "down"], variables)
