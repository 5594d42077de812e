"""The command line, `flowlogs`: a file for each command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from beam_flowlogs import __version__
from beam_flowlogs.cli import local
from beam_flowlogs.cli.alerts import alerts
from beam_flowlogs.cli.backfill import backfill
from beam_flowlogs.cli.beam_command import BeamCommand
from beam_flowlogs.cli.demo import demo
from beam_flowlogs.cli.drain import drain
from beam_flowlogs.cli.generate import generate
from beam_flowlogs.cli.prune import prune
from beam_flowlogs.cli.rejects import rejects
from beam_flowlogs.cli.replay import replay
from beam_flowlogs.cli.setup import setup
from beam_flowlogs.cli.stream import StreamCommand, stream
from beam_flowlogs.cli.summary import summary
from beam_flowlogs.cli.verify import verify

app = typer.Typer(
    name="flowlogs",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold a secret
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

_INDEX, _LOOK, _TRY = "Index", "Look", "Try it on this machine"

app.command(rich_help_panel=_INDEX)(setup)
app.command(rich_help_panel=_INDEX, cls=BeamCommand)(drain)
app.command(rich_help_panel=_INDEX, cls=BeamCommand)(backfill)
app.command(rich_help_panel=_INDEX, cls=StreamCommand)(stream)
app.command(rich_help_panel=_INDEX, cls=BeamCommand)(replay)
app.command(rich_help_panel=_INDEX)(prune)
app.command(rich_help_panel=_LOOK)(summary)
app.command(rich_help_panel=_LOOK)(verify)
app.command(rich_help_panel=_LOOK)(rejects)
app.command(rich_help_panel=_LOOK)(alerts)
app.command(rich_help_panel=_TRY)(demo)
app.add_typer(local.app, name="local", rich_help_panel=_TRY)
app.command(rich_help_panel=_TRY)(generate)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _flowlogs(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """AWS VPC Flow Logs from S3 to Elasticsearch: nothing lost, nothing counted twice.

    First `flowlogs setup`, then `flowlogs drain` or `flowlogs backfill`. ELASTICSEARCH_URL names the Elasticsearch;
    credentials for AWS are found as boto3 does.

    Exit codes: 0 all went well; 1 it failed, or `verify` found a difference; 2 wrong arguments; 3 the local stack is
    not up; 4 a job has finished, and some of what it read is in the dead letters; 5 there was nothing to verify.
    """


def run_alone(command: Callable[..., None], cls: type[BeamCommand] = BeamCommand) -> None:
    """Run one command as a program of its own, as the files in ``pipelines/`` do."""
    alone = typer.Typer(pretty_exceptions_show_locals=False, rich_markup_mode="markdown")
    alone.command(cls=cls)(command)
    alone()


def main() -> None:
    """Run the command line."""
    app()
