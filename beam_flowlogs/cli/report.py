"""What a job did, for a person or as JSON; and what to do about what it set aside."""

from __future__ import annotations

import os
from dataclasses import asdict

import orjson
import typer
from rich.console import Console
from rich.table import Table

from beam_flowlogs.cli.errors import say_warning
from beam_flowlogs.cli.wording import command, count_of
from beam_flowlogs.config import JobConfig
from beam_flowlogs.outcome import Outcome

_NOT_ALLOWED = "bucket-not-allowed"


def wide_console() -> Console:
    """Return a console for tables, which breaks no line where nobody's terminal is the limit: in a pipe or a file."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 1000
    return console


def print_json(data: object) -> None:
    """Print data for a program to read."""
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2))


def show_outcome(title: str, nothing: str, outcome: Outcome, config: JobConfig, *, as_json: bool) -> None:
    """Print the counts that are not 0 (``nothing`` if all are), or all as JSON.

    What was set aside, why, and the cure go to stderr.
    """
    if as_json:
        print_json(asdict(outcome))
    else:
        _show_counts(title, nothing, outcome)
    if outcome.undated_skipped:
        skipped = count_of(outcome.undated_skipped, "object")
        say_warning(
            f"skipped {skipped} whose key tells no time; to read such too, leave --since and --until out and name "
            "them by their prefix"
        )
    warn_of_rejects(outcome, config)


def warn_of_rejects(outcome: Outcome, config: JobConfig) -> None:
    """Say on stderr what was set aside, by reason and with an example each, where it is, and what to do; or nothing."""
    if not outcome.has_rejects:
        return
    total = sum(group.count for group in outcome.set_aside)
    number = count_of(total, "reject") if total else "some"  # not every runner tells which
    kept = count_of(outcome.dead_letters_kept, "file")
    before = f"; {kept} of dead letters could not be replayed" if outcome.dead_letters_kept else ""
    say_warning(f"set aside in {config.dead_letters}: {number}{before}")
    for group in outcome.set_aside:
        buckets = f", in bucket {', '.join(group.buckets)}" if group.reason == _NOT_ALLOWED else ""
        _say(f"  {group.count:,} {group.stage} {group.reason}{buckets}, such as: {group.example}")
    location = ["--dead-letter", config.dead_letters]
    _say(f"Look at them:      {command('rejects', *location)}")
    others = [group for group in outcome.set_aside if group.reason != _NOT_ALLOWED]
    for group in outcome.set_aside:
        if group.reason == _NOT_ALLOWED:
            allowed = " ".join(f"--bucket {bucket}" for bucket in group.buckets)
            _say(f"If that is to be read, give the next run {allowed} too, and put these through now:")
            _say(f"  {_replay(config, group.buckets, '--reason', _NOT_ALLOWED)}")
    if others or not outcome.set_aside:
        _say(f"Once it is mended: {_replay(config, config.buckets)}")


def _replay(config: JobConfig, buckets: tuple[str, ...], *selection: str) -> str:
    named = [word for bucket in buckets for word in ("--bucket", bucket)]
    more = [] if config.windows == (60,) else ["--rollup-window", ",".join(f"{window}s" for window in config.windows)]
    more += ["--format", " ".join(config.names)] if config.names else []
    return command("replay", "--dead-letter", config.dead_letters, *named, *selection, *more)


def _show_counts(title: str, nothing: str, outcome: Outcome) -> None:
    counts = asdict(outcome)
    del counts["set_aside"]
    shown = {_label(name): count for name, count in counts.items() if count}
    if not shown:
        typer.echo(nothing)
        return
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for label, count in shown.items():
        table.add_row(label, f"{count:,}")
    wide_console().print(table)


def _label(name: str) -> str:
    return "rows rejected" if name == "rejects" else name.replace("_", " ").replace("rollups", "roll-ups")


def _say(line: str) -> None:
    typer.echo(line, err=True)
