"""`flowlogs alerts`: what the alert rules found."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from beam_flowlogs.alert_store import ALERT_INDEX
from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import one_line_errors, wrong_arguments
from beam_flowlogs.cli.report import print_json, wide_console
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.times import parse_time


def alerts(
    open_only: Annotated[bool, typer.Option("--open", help="Only alerts that are open.")] = False,
    since: Annotated[str, typer.Option(help="Only those that went on after this time, such as 2d (ago).")] = "",
    limit: Annotated[int, typer.Option(help="Show so many at most, the newest first.", min=1, max=10_000)] = 50,
    as_json: opt.AsJson = False,
) -> None:
    """Show alerts: one for each rule, interface and episode, with the worst of its windows."""
    wanted: list[dict[str, Any]] = []
    if open_only:
        wanted.append({"term": {"flowlogs.alert.status": "open"}})
    with wrong_arguments():
        if since:
            after = parse_time(since, datetime.now(timezone.utc))
            wanted.append({"range": {"event.end": {"gte": after.isoformat(timespec="milliseconds")}}})
        config = ElasticsearchConfig.from_environment(os.environ)
    with one_line_errors():
        client = connect(config)
        client.indices.refresh(index=ALERT_INDEX, ignore_unavailable=True)
        answer = client.search(
            index=ALERT_INDEX,
            ignore_unavailable=True,
            size=limit,
            query={"bool": {"filter": wanted}},
            sort=[{"event.start": {"order": "desc", "unmapped_type": "date"}}],
            source_excludes=["flowlogs.alert.windows"],
        )
    found = [hit["_source"] for hit in answer["hits"]["hits"]]
    if as_json:
        print_json(found)
    elif not found:
        typer.echo("No alerts.")
    else:
        wide_console().print(_table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("from", "to", "status", "rule", "what"):
        table.add_column(name, no_wrap=name != "what")
    for alert in found:
        event, told = alert["event"], alert["flowlogs"]["alert"]
        table.add_row(event["start"], event["end"], told["status"], told["rule"], alert["message"])
    return table
