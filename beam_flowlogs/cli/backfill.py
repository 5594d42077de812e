"""`flowlogs backfill`: index what lies in S3, without a queue."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import wrong_arguments
from beam_flowlogs.cli.job import run_job
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.s3_object import parse_s3_url
from beam_flowlogs.times import parse_range


def backfill(
    context: typer.Context,
    urls: Annotated[
        list[str], typer.Argument(metavar="s3://BUCKET/PREFIX", help="Where the flow logs lie; several are allowed.")
    ],
    since: opt.Since = "",
    until: opt.Until = "",
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    rollup_window: opt.Window = opt.DEFAULT_WINDOW,
    rollup_details: opt.Details = False,
    conversations: opt.Conversations = 0,
    text_format: opt.Format = "",
    rules: opt.Rules = None,
    webhook_url: opt.WebhookUrl = "",
    alerts_topic: opt.AlertsTopic = "",
    retry_for: opt.RetryFor = opt.DEFAULT_RETRY_FOR,
    max_plain_bytes: opt.MaxPlainBytes = opt.DEFAULT_MAX_PLAIN_BYTES,
    max_ratio: opt.MaxRatio = opt.DEFAULT_MAX_RATIO,
    max_days: opt.MaxDays = opt.DEFAULT_MAX_DAYS,
    max_rollups: opt.MaxRollups = opt.DEFAULT_MAX_ROLLUPS,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Index the flow logs that lie below S3 prefixes.

    What a queue has brought in already stays as it is, and the other way round: an object has one identity, however it
    was found.

    --since and --until choose log files by the five minutes that stand in their names, which the records in them ended
    in; of a renamed file the day of its folder counts. Folders of other days are not even listed. An object whose key
    tells no time is skipped then, and counted.

    Exit code 0: all of it is indexed; 4: it has ended, and something is in the dead letters; 1: it has failed.

    Options that are not listed here go to Beam, such as --runner=FlinkRunner --flink_master=HOST:8081.
    """
    with wrong_arguments():
        slots = SlotRange(parse_range(since, until, datetime.now(timezone.utc)))
        config = opt.job_config(
            [parse_s3_url(url)[0] for url in urls],
            dead_letter=dead_letter,
            window=rollup_window,
            details=rollup_details,
            conversations=conversations,
            text_format=text_format,
            retry_for=retry_for,
            max_plain_bytes=max_plain_bytes,
            max_ratio=max_ratio,
            alerts=opt.alert_config(rules, webhook_url, alerts_topic),
            max_days=max_days,
            max_rollups=max_rollups,
        )

    def job() -> Outcome:
        from beam_flowlogs import run  # here: importing Beam takes a second that help need not

        return run.backfill(config, urls, context.args, slots)

    of_that_time = " that are of that time" if slots.times.is_bounded else ""
    nothing = f"There are no objects below {', '.join(urls)}{of_that_time}"
    run_job("Indexed", nothing, config, context.args, job, as_json=as_json, verbose=verbose)
