"""How the bounded jobs run: checked beforehand, watched, and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from beam_flowlogs.cli.errors import SET_ASIDE, interrupted_when_terminated, one_line_errors, wrong_arguments
from beam_flowlogs.cli.logs import log_to_stderr, progress
from beam_flowlogs.cli.options import check_dead_letter
from beam_flowlogs.cli.report import show_outcome
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import connect
from beam_flowlogs.elastic.setup import check_set_up
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import DeadLetters


def run_job(
    title: str,
    nothing: str,
    config: JobConfig,
    beam_args: Sequence[str],
    job: Callable[[], Outcome],
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run ``job`` and print what it did, or ``nothing`` when it did nothing.

    Exit code 4 when anything of it is in the dead letters.
    """
    log_to_stderr(verbose=verbose)
    from beam_flowlogs.beam_options import is_local, runner_of  # here: importing Beam takes a second

    runner = runner_of(beam_args)
    with wrong_arguments():
        if not is_local(runner):
            check_dead_letter(config.dead_letters, runner)
    with one_line_errors(), interrupted_when_terminated():
        check_set_up(connect(config.elasticsearch))
        if is_local(runner):  # elsewhere the workers' rights count, not those of this command
            DeadLetters(config.dead_letters, retry_for=config.retry_for).check()
        with progress(verbose=verbose):
            outcome = job()
    show_outcome(title, nothing, outcome, config, as_json=as_json)
    if outcome.has_rejects:
        raise typer.Exit(SET_ASIDE)
