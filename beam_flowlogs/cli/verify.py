"""`flowlogs verify`: prove that the roll-ups are the sums of the raw documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Annotated, Any

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import FAILED, NOTHING, one_line_errors, wrong_arguments
from beam_flowlogs.cli.report import print_json
from beam_flowlogs.cli.wording import count_of
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.verify import Difference, Proof, Range, window_lengths
from beam_flowlogs.elastic.verify import verify as run_verify
from beam_flowlogs.rollup import parse_windows
from beam_flowlogs.times import parse_range

_SHOWN = 20


def verify(
    rollup_window: Annotated[
        str,
        typer.Option(
            "--rollup-window", help="Only windows of this length, such as 60s, or 60s,1h. Default: of every length."
        ),
    ] = "",
    since: opt.Since = "",
    until: opt.Until = "",
    as_json: opt.AsJson = False,
) -> None:
    """Recount the raw documents and compare every roll-up with the sum, counter by counter.

    Exit code 0: all are equal. 1: some differ, and they are named. 5: there is nothing to verify. While objects are on
    their way, raw documents are ahead of their roll-ups: verify what is older, with --until. Where raw documents are
    deleted before their roll-ups, begin with --since. Only windows that lie wholly between the two are compared.
    """
    with wrong_arguments():
        windows = parse_windows(rollup_window) if rollup_window else ()
        config = ElasticsearchConfig.from_environment(os.environ)
        times = Range.of(parse_range(since, until, datetime.now(timezone.utc)))
    with one_line_errors():
        client = connect(config)
        # Without any roll-up, the windows that a job makes by default are all missing.
        windows = windows or tuple(window_lengths(client)) or parse_windows(opt.DEFAULT_WINDOW)
        proofs = [run_verify(client, window_s, times.whole_windows(window_s)) for window_s in windows]
    if as_json:
        print_json(_as_data(proofs))
    else:
        for proof in proofs:
            _show(proof)
    if any(proof.differences for proof in proofs):
        raise typer.Exit(FAILED)
    if not any(proof.compared for proof in proofs):
        typer.echo("Nothing to verify: there are no roll-ups and no raw documents here, or none in that time", err=True)
        raise typer.Exit(NOTHING)


def _as_data(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    return [
        {
            "window": f"{proof.window_s}s",
            "documents": proof.documents,
            "rollups": proof.rollups,
            "equal": proof.equal,
            "missing": proof.missing,
            "unfounded": proof.unfounded,
            "different": proof.different,
            "differences": [
                {"id": found.key.id, "rolled_up": found.rolled_up, "has_raw": found.has_raw, **found.counters}
                for found in proof.differences
            ],
        }
        for proof in proofs
    ]


def _show(proof: Proof) -> None:
    if not proof.compared:
        return
    window = f"Windows of {proof.window_s} s: "
    if not proof.differences:
        verb = "equals the sum" if proof.rollups == 1 else "equal the sums"
        raw = count_of(proof.documents, "raw document")
        typer.echo(f"{window}{count_of(proof.rollups, 'roll-up')} {verb} over {raw}, exactly")
        return
    for found in proof.differences[:_SHOWN]:
        typer.echo(_line(found), err=True)
    if len(proof.differences) > _SHOWN:
        typer.echo(f"... and {len(proof.differences) - _SHOWN:,} more", err=True)
    typer.echo(
        f"{window}of {proof.compared:,} that there should be, {proof.equal:,} are equal, {proof.different:,} differ, "
        f"{proof.missing:,} are missing (raw documents without a roll-up), and {proof.unfounded:,} have no raw "
        f"documents; recounted: {count_of(proof.documents, 'raw document')}",
        err=True,
    )
    if proof.missing > proof.equal:
        typer.echo(
            "Had all jobs the same --rollup-window? `flowlogs verify --rollup-window 60s` looks at one length",
            err=True,
        )


def _line(found: Difference) -> str:
    if not found.rolled_up:
        return f"{found.key.id}  there is no roll-up of its raw documents"
    if not found.has_raw:
        return f"{found.key.id}  there are no raw documents of this roll-up"
    return f"{found.key.id}  " + ", ".join(
        f"{name}: recounted {mine:,}, rolled up {theirs:,}" for name, (mine, theirs) in found.counters.items()
    )
