"""`flowlogs prune`: delete the indices that are past their time."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import one_line_errors, wrong_arguments
from beam_flowlogs.cli.report import print_json
from beam_flowlogs.cli.wording import count_of, size_of
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.lifecycle import Retention, parse_days
from beam_flowlogs.elastic.prune import prune as run_prune

KeepRaw = Annotated[str, typer.Option(help="Age at which a day of raw documents is deleted, in whole days.")]
KeepRollups = Annotated[str, typer.Option(help="Age at which a month of roll-ups is deleted, in whole days.")]
DEFAULT_KEEP_RAW = f"{Retention().raw_days}d"
DEFAULT_KEEP_ROLLUPS = f"{Retention().rollup_days}d"


def prune(
    keep_raw: KeepRaw = DEFAULT_KEEP_RAW,
    keep_rollups: KeepRollups = DEFAULT_KEEP_ROLLUPS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which indices would go.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Delete raw and roll-up indices whose whole day or month is older than is kept.

    For servers without lifecycle management, once a day. A range that a backfill has brought back is old by its name:
    give a --keep-raw that covers it for as long as it is needed. The flow logs themselves stay in S3.
    """
    with wrong_arguments():
        retention = Retention(parse_days(keep_raw), parse_days(keep_rollups))
        config = ElasticsearchConfig.from_environment(os.environ)
    with one_line_errors():
        pruned = run_prune(connect(config), retention, datetime.now(timezone.utc), dry_run=dry_run)
    if as_json:
        print_json([index._asdict() for index in pruned])
        return
    for index in pruned:
        what = "would be deleted" if dry_run else "deleted"
        typer.echo(f"{index.name}: {what}, {count_of(index.documents, 'document')}, {size_of(index.bytes)}")
    if not pruned:
        typer.echo("Nothing is older than is kept.")
