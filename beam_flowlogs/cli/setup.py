"""`flowlogs setup`: put templates, and lifecycle policies where the server has them, in place."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import one_line_errors, wrong_arguments
from beam_flowlogs.cli.prune import DEFAULT_KEEP_RAW, DEFAULT_KEEP_ROLLUPS, KeepRaw, KeepRollups
from beam_flowlogs.cli.report import print_json
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.lifecycle import Retention, parse_days
from beam_flowlogs.elastic.setup import POLICY, set_up
from beam_flowlogs.elastic.templates import IndexLayout


def setup(
    raw_shards: Annotated[int, typer.Option(help="Primary shards of a day's raw index; one holds 200 GB.")] = 1,
    replicas: Annotated[
        int | None, typer.Option(help="Copies of every index. Default: one where there is a second node.")
    ] = None,
    keep_raw: KeepRaw = DEFAULT_KEEP_RAW,
    keep_rollups: KeepRollups = DEFAULT_KEEP_ROLLUPS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change on the server.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Create or update the index templates in Elasticsearch. Once is enough; again does no harm.

    Where the server has lifecycle management, a policy deletes what is past --keep-raw and --keep-rollups; where it has
    not, run `flowlogs prune` daily. An index keeps the shape that the templates had when it was created.
    """
    with wrong_arguments():
        layout = IndexLayout(raw_shards, replicas)
        retention = Retention(parse_days(keep_raw), parse_days(keep_rollups))
        config = ElasticsearchConfig.from_environment(os.environ)
    with one_line_errors():
        changes = set_up(connect(config), layout, retention, dry_run=dry_run)
    if as_json:
        print_json([change._asdict() for change in changes])
        return
    for change in changes:
        typer.echo(f"{change.kind} {change.name}: {_would(change.what) if dry_run else change.what}")
        # What is created is new from beginning to end: only a difference is worth reading.
        for line in change.lines if dry_run and change.what == "updated" else ():
            typer.echo(f"  {line}")
    if not any(change.kind == POLICY for change in changes):
        typer.echo("This server has no lifecycle management: run `flowlogs prune` once a day.", err=True)


def _would(what: str) -> str:
    return f"would be {what}" if what in ("created", "updated") else what
