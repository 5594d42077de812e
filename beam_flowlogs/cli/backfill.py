"""`flowlogs backfill`: index what lies in S3, without a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.elastic.connection import connect
from beam_flowlogs.elastic.setup import check_set_up
from beam_flowlogs.s3_object import parse_s3_url


def backfill(
    context: typer.Context,
    urls: Annotated[list[str], typer.Argument(metavar="s3://BUCKET/PREFIX...", help="Where the flow logs lie.")],
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    rollup_window: opt.Window = "60s",
    text_format: opt.Format = "",
    rules: opt.Rules = None,
    webhook_url: opt.WebhookUrl = "",
    alerts_topic: opt.AlertsTopic = "",
    retry_for: opt.RetryFor = opt.DEFAULT_RETRY_FOR,
    max_plain_bytes: opt.MaxPlainBytes = opt.DEFAULT_MAX_PLAIN_BYTES,
    max_ratio: opt.MaxRatio = opt.DEFAULT_MAX_RATIO,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Index the flow logs that lie below S3 prefixes.

    What a queue has brought in already stays as it is, and the other way round: an object has one identity, however it
    was found. Options that are not listed here go to Beam.
    """
    from beam_flowlogs.run import (
        backfill as run_backfill,
    )  # here, because importing Beam takes a second that help need not

    opt.log_to_stderr(verbose=verbose)
    with opt.one_line_errors():
        config = opt.job_config(
            [parse_s3_url(url)[0] for url in urls],
            dead_letter=dead_letter,
            window=rollup_window,
            text_format=text_format,
            retry_for=retry_for,
            max_plain_bytes=max_plain_bytes,
            max_ratio=max_ratio,
            alerts=opt.alert_config(rules, webhook_url, alerts_topic),
        )
        check_set_up(connect(config.elasticsearch))
        with opt.progress(verbose=verbose):
            summary = run_backfill(config, urls, context.args)
        opt.show_counts("Indexed", summary, as_json=as_json)
