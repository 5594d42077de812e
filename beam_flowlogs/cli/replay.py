"""`flowlogs replay`: put dead letters through again."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import wrong_arguments
from beam_flowlogs.cli.job import run_job
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import Selection


def replay(
    context: typer.Context,
    bucket: Annotated[
        list[str], typer.Option(help="Bucket that may be read; * and ? are allowed. Repeat for several.")
    ],
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    stage: opt.Stage = "",
    reason: opt.Reason = "",
    rollup_window: opt.Window = opt.DEFAULT_WINDOW,
    rollup_details: opt.Details = False,
    conversations: opt.Conversations = 0,
    text_format: opt.Format = "",
    retry_for: opt.RetryFor = opt.DEFAULT_RETRY_FOR,
    max_plain_bytes: opt.MaxPlainBytes = opt.DEFAULT_MAX_PLAIN_BYTES,
    max_ratio: opt.MaxRatio = opt.DEFAULT_MAX_RATIO,
    max_days: opt.MaxDays = opt.DEFAULT_MAX_DAYS,
    max_rollups: opt.MaxRollups = opt.DEFAULT_MAX_ROLLUPS,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Put what was set aside through again, once its cause is mended, and mark what went through as replayed.

    An object of which anything was set aside is read again as a whole: what is indexed already stays as it is. What
    fails again stays in the dead letters. Give the same --rollup-... options and --format as the job that set it aside.

    Exit code 0: everything selected went through; 4: something stays in the dead letters; 1: it has failed.

    Options that are not listed here go to Beam.
    """
    with wrong_arguments():
        config = opt.job_config(
            bucket,
            dead_letter=dead_letter,
            window=rollup_window,
            details=rollup_details,
            conversations=conversations,
            text_format=text_format,
            retry_for=retry_for,
            max_plain_bytes=max_plain_bytes,
            max_ratio=max_ratio,
            max_days=max_days,
            max_rollups=max_rollups,
        )
        selection = Selection(stage, reason).check()

    def job() -> Outcome:
        from beam_flowlogs import run  # here: importing Beam takes a second that help need not

        return run.replay(config, selection, context.args)

    nothing = f"There are no such dead letters in {dead_letter}"
    run_job("Replayed", nothing, config, context.args, job, as_json=as_json, verbose=verbose)
