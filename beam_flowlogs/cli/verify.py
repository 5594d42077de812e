"""`flowlogs verify`: prove that the roll-ups are the sums of the raw documents."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from beam_flowlogs.cli import options as opt
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.verify import Difference
from beam_flowlogs.elastic.verify import verify as run_verify
from beam_flowlogs.rollup import parse_window

_SHOWN = 20


def verify(
    rollup_window: opt.Window = "60s",
    since: Annotated[str, typer.Option(help="Only from this time on, such as 2026-01-31T12:00:00Z or now-1h/m.")] = "",
    until: Annotated[str, typer.Option(help="Only before this time.")] = "",
    as_json: opt.AsJson = False,
) -> None:
    """Recount the raw documents and compare every roll-up with the sum, counter by counter.

    Exit code 0: all are equal. 1: some differ, and they are named. While objects are on their way, raw documents are
    ahead of their roll-ups: verify what is older, with --until.
    """
    with opt.one_line_errors():
        window_s = parse_window(rollup_window)
        bounds = {name: time for name, time in (("gte", since), ("lt", until)) if time}
        query = {"range": {"@timestamp": bounds}} if bounds else None
        proof = run_verify(connect(ElasticsearchConfig.from_environment(os.environ)), window_s, query)
    if as_json:
        opt.print_json(
            {
                "rollups": proof.rollups,
                "documents": proof.documents,
                "differences": [{"id": found.key.id, **found.counters} for found in proof.differences],
            }
        )
    elif proof.differences:
        console = Console(stderr=True)
        for found in proof.differences[:_SHOWN]:
            console.print(_line(found))
        console.print(f"{len(proof.differences):,} of {proof.rollups:,} roll-ups differ from their raw documents")
    else:
        typer.echo(f"{proof.rollups:,} roll-ups equal the sums over {proof.documents:,} raw documents, exactly")
    if proof.differences:
        raise typer.Exit(opt.FAILED)


def _line(found: Difference) -> str:
    counters = ", ".join(f"{name}: recounted {a:,}, rolled up {b:,}" for name, (a, b) in found.counters.items())
    return f"{found.key.id}  {counters or 'exists on one side only'}"
