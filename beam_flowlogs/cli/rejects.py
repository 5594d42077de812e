"""`flowlogs rejects`: what was set aside, by stage and reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import one_line_errors, wrong_arguments
from beam_flowlogs.cli.report import print_json, wide_console
from beam_flowlogs.cli.wording import command
from beam_flowlogs.reject import DeadLetters, Reject, Selection

_PATIENCE_S = 20
"""Somebody is waiting for the answer."""


def rejects(
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    stage: opt.Stage = "",
    reason: opt.Reason = "",
    each: Annotated[bool, typer.Option("--list", help="Show each reject instead of groups.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show what was set aside and why: counts by stage and reason, with an example of each.

    What was replayed since is not shown: --dead-letter LOCATION/replayed does that.
    """
    with wrong_arguments():
        selection = Selection(stage, reason).check()
        letters = DeadLetters(dead_letter, retry_for=_PATIENCE_S)
    with one_line_errors():
        found = ((file, reject) for file, reject in letters.read() if selection.holds(reject))
        if each:
            _show_each(found, as_json=as_json)
        else:
            _show_groups(_groups(reject for _, reject in found), dead_letter, as_json=as_json)


def _groups(found: Iterable[Reject]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for reject in found:
        group = groups.setdefault(
            (reject.stage, reject.reason),
            {
                "stage": reject.stage,
                "reason": reject.reason,
                "count": 0,
                "first_seen": reject.first_seen,
                "last_seen": reject.first_seen,
                "buckets": set(),
                "example": reject.detail,
            },
        )
        group["count"] += 1
        group["buckets"].update([reject.bucket] if reject.bucket else ())
        group["first_seen"] = min(group["first_seen"], reject.first_seen)
        group["last_seen"] = max(group["last_seen"], reject.first_seen)
    ordered = sorted(groups.values(), key=lambda group: (-group["count"], group["stage"], group["reason"]))
    return [
        group
        | {"first_seen": _time(group["first_seen"]), "last_seen": _time(group["last_seen"])}
        | {"buckets": sorted(group["buckets"])}
        for group in ordered
    ]


def _show_groups(groups: list[dict[str, Any]], location: str, *, as_json: bool) -> None:
    if as_json:
        print_json(groups)
        return
    console = wide_console()
    if not groups:
        console.print(
            f"Nothing of that kind is set aside in {location}. If something should be: is it the job's --dead-letter?",
            soft_wrap=True,
        )
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("stage")
    table.add_column("reason")
    table.add_column("count", justify="right")
    table.add_column("last seen")
    table.add_column("example", overflow="fold")
    for group in groups:
        last_seen = group["last_seen"][:19]
        table.add_row(group["stage"], group["reason"], f"{group['count']:,}", last_seen, escape(group["example"]))
    console.print(table)
    place = ["--dead-letter", location]
    typer.echo(f"Each of them: {command('rejects', *place, '--list')}")
    buckets = sorted({bucket for group in groups for bucket in group["buckets"]}) or ["NAME"]
    allowed = [word for bucket in buckets for word in ("--bucket", bucket)]
    typer.echo(f"Once the cause is mended: {command('replay', *place, *allowed)}")


def _show_each(found: Iterator[tuple[str, Reject]], *, as_json: bool) -> None:
    if as_json:
        print_json([_as_data(file, reject) for file, reject in found])
        return
    for _, reject in found:
        typer.echo(f"{_time(reject.first_seen)} {reject.stage} {reject.reason}: {reject.detail}")


def _as_data(file: str, reject: Reject) -> dict[str, Any]:
    text = {"first_seen": _time(reject.first_seen), "data": reject.data.decode("utf-8", "backslashreplace")}
    return {"file": file} | reject._asdict() | text


def _time(milliseconds: int) -> str:
    return (
        datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
