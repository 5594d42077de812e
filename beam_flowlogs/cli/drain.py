"""`flowlogs drain`: index what a queue announces until it is empty."""

from __future__ import annotations

from typing import Annotated

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import wrong_arguments
from beam_flowlogs.cli.job import run_job
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.sqs_queue import VISIBILITY_S, check_queue_url

_NOTHING = (
    "The queue is empty, or its messages are with another job: those of one that was killed come again within "
    f"{VISIBILITY_S // 60} minutes."
)


def drain(
    context: typer.Context,
    queue_url: Annotated[str, typer.Option(help="The SQS queue that S3 notifies.")],
    bucket: Annotated[
        list[str], typer.Option(help="Bucket that may be read; * and ? are allowed. Repeat for several.")
    ],
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    rollup_window: opt.Window = opt.DEFAULT_WINDOW,
    rollup_details: opt.Details = False,
    conversations: opt.Conversations = 0,
    text_format: opt.Format = "",
    limit: Annotated[int, typer.Option(min=1, help="Messages of one round: so many are in flight at most.")] = 1000,
    rules: opt.Rules = None,
    webhook_url: opt.WebhookUrl = "",
    alerts_topic: opt.AlertsTopic = "",
    max_receives: opt.MaxReceives = opt.DEFAULT_MAX_RECEIVES,
    retry_for: opt.RetryFor = opt.DEFAULT_RETRY_FOR,
    max_plain_bytes: opt.MaxPlainBytes = opt.DEFAULT_MAX_PLAIN_BYTES,
    max_ratio: opt.MaxRatio = opt.DEFAULT_MAX_RATIO,
    max_days: opt.MaxDays = opt.DEFAULT_MAX_DAYS,
    max_rollups: opt.MaxRollups = opt.DEFAULT_MAX_ROLLUPS,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Index the flow logs that a queue announces, until it is empty.

    A message is deleted once everything made from it is durable in Elasticsearch (or, if it cannot be indexed, in the
    dead letters). Running it again, or twice at once, changes nothing: ids are derived and roll-ups merge.

    Exit code 0: all of it is indexed; 4: it has ended, and something is in the dead letters; 1: it has failed.

    Options that are not listed here go to Beam, such as --runner=FlinkRunner --flink_master=HOST:8081.
    Elasticsearch is named by ELASTICSEARCH_URL (ELASTICSEARCH_API_KEY), AWS by boto3's usual variables.
    """
    with wrong_arguments():
        check_queue_url(queue_url)
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
            alerts=opt.alert_config(rules, webhook_url, alerts_topic),
            max_days=max_days,
            max_rollups=max_rollups,
        )

    def job() -> Outcome:
        from beam_flowlogs import run  # here: importing Beam takes a second that help need not

        return run.drain(config, queue_url, context.args, limit=limit, max_receives=max_receives)

    run_job("Drained", _NOTHING, config, context.args, job, as_json=as_json, verbose=verbose)
