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
    help="AWS VPC Flow Logs from S3 to Elasticsearch: nothing lost, nothing counted twice.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold a secret
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(local.app, name="local")
app.command()(generate)
app.command()(setup)
app.command()(prune)
app.command(cls=BeamCommand)(drain)
app.command(cls=BeamCommand)(backfill)
app.command(cls=StreamCommand)(stream)
app.command()(rejects)
app.command(cls=BeamCommand)(replay)
app.command()(summary)
app.command()(alerts)
app.command()(verify)
app.command()(demo)


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
    """First `flowlogs setup`, then `flowlogs drain` or `flowlogs backfill`. To try it: `flowlogs local up`."""


def run_alone(command: Callable[..., None], cls: type[BeamCommand] = BeamCommand) -> None:
    """Run one command as a program of its own, as the files in ``pipelines/`` do."""
    alone = typer.Typer(pretty_exceptions_show_locals=False)
    alone.command(cls=cls)(command)
    alone()


def main() -> None:
    """Run the command line."""
    app()
