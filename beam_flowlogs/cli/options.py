"""Options that several commands share, and the job configuration that they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_rules import DEFAULT_RULES, read_rules
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.cli.errors import say_warning
from beam_flowlogs.config import DEFAULT_LATENESS_S, JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.fields import parse_format, unknown_names
from beam_flowlogs.inflate import Limits
from beam_flowlogs.reject import STAGES
from beam_flowlogs.rollup import parse_duration, parse_windows
from beam_flowlogs.rollup_details import MOST_CONVERSATIONS
from beam_flowlogs.sqs_queue import MAX_RECEIVES

DeadLetter = Annotated[
    str,
    typer.Option(
        "--dead-letter",
        help="Where rejects are kept: a folder, or s3://bucket/prefix, which workers on other machines need.",
    ),
]
Window = Annotated[
    str, typer.Option("--rollup-window", help="Length of the roll-ups' windows, such as 60s; several: 60s,1h.")
]
Details = Annotated[
    bool,
    typer.Option(
        "--rollup-details", help="Roll up distinct addresses and ports and top talkers too: about twice the CPU."
    ),
]
Conversations = Annotated[
    int,
    typer.Option(
        help=f"Keep so many conversations of each interface and window, the biggest; 0 to {MOST_CONVERSATIONS}."
    ),
]
Format = Annotated[
    str, typer.Option("--format", help="Fields of text objects without a header line: 'version account-id ...'.")
]
Since = Annotated[
    str,
    typer.Option(help="Only from this time on: a day or time such as 2026-01-31T12:00:00Z (UTC), 2d (ago), now-1h/m."),
]
Until = Annotated[str, typer.Option(help="Only before this time.")]
RetryFor = Annotated[
    float | None,
    typer.Option(
        help="Seconds that S3, SQS or Elasticsearch may be out of reach before the job fails; inf, or none: wait. "
        "What was done stays done, so it can be run again."
    ),
]
MaxPlainBytes = Annotated[
    int, typer.Option(help="Bytes of one object, unpacked, above which it is rejected; by default 8 GiB.")
]
MaxRatio = Annotated[
    int, typer.Option(help="Times its size that one object may unpack to before it is rejected; 64 MiB always may.")
]
Rules = Annotated[
    Path | None,
    typer.Option(help="TOML file of alert rules, as docs/alerts.md describes it. Default: the built-in ones."),
]
WebhookUrl = Annotated[
    str,
    typer.Option(help="Where to find the address to post alerts to: env:NAME, file:/path or an ARN; it is a secret."),
]
AlertsTopic = Annotated[str, typer.Option("--alerts-topic-arn", help="SNS topic to publish alerts to.")]
MaxDays = Annotated[
    int,
    typer.Option(
        min=1,
        help="Days that a record may lie from its object's delivery slot, or first record, before it is rejected.",
    ),
]
MaxRollups = Annotated[
    int,
    typer.Option(min=1, help="Roll-ups (interfaces times windows) that one object may have a part in; 1.7 KB each."),
]
MaxReceives = Annotated[
    int, typer.Option(min=0, help="Times a message is tried before its objects are set aside; 0: always.")
]
Stage = Annotated[str, typer.Option(help=f"Only the rejects of one stage: {', '.join(STAGES)}.")]
Reason = Annotated[str, typer.Option(help="Only the rejects with this reason, as `flowlogs rejects` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say a line for each object.")]

_LIMITS = Limits()
DEFAULT_MAX_PLAIN_BYTES = _LIMITS.plain_bytes
DEFAULT_MAX_RATIO = _LIMITS.ratio
DEFAULT_MAX_DAYS = _LIMITS.days
DEFAULT_MAX_ROLLUPS = _LIMITS.rollups
DEFAULT_MAX_RECEIVES = MAX_RECEIVES
DEFAULT_DEAD_LETTER = "dead-letters"
DEFAULT_WINDOW = "60s"

DEFAULT_RETRY_FOR = 3600.0
"""A job that ends by itself gives up after an hour without progress; an endless one never does."""


def job_config(
    buckets: Sequence[str],
    *,
    dead_letter: str,
    window: str,
    details: bool,
    conversations: int,
    text_format: str,
    retry_for: float | None,
    max_plain_bytes: int,
    max_ratio: int,
    max_days: int,
    max_rollups: int,
    alerts: AlertConfig | None = None,
    lateness: str = "",
) -> JobConfig:
    """Return the configuration that command-line options and the environment describe. Raises ValueError.

    ``lateness`` is that of an endless job; others have their input whole. Without ``alerts`` no rule is evaluated.
    """
    windows = parse_windows(window)
    lateness_s = parse_duration(lateness) if lateness else max(DEFAULT_LATENESS_S, windows[-1])
    if not lateness_s:
        raise ValueError(f"--allowed-lateness is {lateness!r}: give a length of time such as 30m or 2h")
    names = parse_format(text_format)
    for name in unknown_names(names):
        say_warning(f"--format: {name} is no field that this version knows; its values are indexed as a keyword")
    return JobConfig(
        elasticsearch=ElasticsearchConfig.from_environment(os.environ),
        dead_letters=dead_letter,
        buckets=tuple(buckets),
        windows=windows,
        rollup_details=details,
        conversations=conversations,
        lateness_s=lateness_s,
        names=names,
        retry_for=retry_for,
        limits=Limits(plain_bytes=max_plain_bytes, ratio=max_ratio, days=max_days, rollups=max_rollups),
        bulk=BulkConfig(retry_for=retry_for),
        alerts=alerts or AlertConfig(rules=()),
    )


def alert_config(rules: Path | None, webhook_url: str, topic_arn: str) -> AlertConfig:
    """Return what options say of alerts. Raises ValueError."""
    return AlertConfig(read_rules(rules) if rules else DEFAULT_RULES, webhook_url, topic_arn)


def check_dead_letter(location: str, runner: str) -> None:
    """Refuse a relative folder for workers that are not here: theirs would be another one, gone with them."""
    if "://" not in location and not Path(location).is_absolute():
        raise ValueError(
            f"--dead-letter is {location!r}, a relative folder: the workers of {runner} would each write to one of "
            "their own. Give s3://bucket/prefix, or the absolute path of a folder that all of them share"
        )
