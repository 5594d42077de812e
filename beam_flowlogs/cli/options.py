"""Options that several commands share, and the job configuration that they make."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from elastic_transport import TransportError
from elasticsearch import AuthenticationException, AuthorizationException
from rich.console import Console
from rich.table import Table

from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_rules import DEFAULT_RULES, read_rules
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.inflate import Limits
from beam_flowlogs.reject import STAGES
from beam_flowlogs.rollup import parse_windows

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that hands the arguments it does not know to Beam."""

DeadLetter = Annotated[
    str, typer.Option("--dead-letter", help="Where rejects are kept: a folder, or s3://bucket/prefix.")
]
Window = Annotated[
    str, typer.Option("--rollup-window", help="Length of the roll-ups' windows, such as 60s; several: 60s,1h.")
]
Format = Annotated[
    str, typer.Option("--format", help="Fields of text objects without a header line: 'version account-id ...'.")
]
RetryFor = Annotated[
    float | None,
    typer.Option(
        help="Seconds that S3, SQS or Elasticsearch may be out of reach before the job fails; inf, or none: wait. "
        "What was done stays done, so it can be run again."
    ),
]
MaxPlainBytes = Annotated[int, typer.Option(help="Bytes of one object, unpacked, above which it is rejected.")]
MaxRatio = Annotated[int, typer.Option(help="Times its size that one object may unpack to before it is rejected.")]
Rules = Annotated[
    Path | None,
    typer.Option(help="TOML file of alert rules, as docs/alerts.md describes it. Default: the built-in ones."),
]
WebhookUrl = Annotated[
    str,
    typer.Option(help="Where to find the address to post alerts to: env:NAME, file:/path or an ARN; it is a secret."),
]
AlertsTopic = Annotated[str, typer.Option("--alerts-topic-arn", help="SNS topic to publish alerts to.")]
Stage = Annotated[str, typer.Option(help=f"Only the rejects of one stage: {', '.join(STAGES)}.")]
Reason = Annotated[str, typer.Option(help="Only the rejects with this reason, as `flowlogs rejects` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say a line for each object.")]

_LIMITS = Limits()
DEFAULT_MAX_PLAIN_BYTES = _LIMITS.plain_bytes
DEFAULT_MAX_RATIO = _LIMITS.ratio
DEFAULT_DEAD_LETTER = "dead-letters"

DEFAULT_RETRY_FOR = 3600.0
"""A job that ends by itself gives up after an hour without progress; an endless one never does."""

FAILED = 1
USAGE = 2


def job_config(
    buckets: list[str],
    *,
    dead_letter: str,
    window: str,
    text_format: str,
    retry_for: float | None,
    max_plain_bytes: int,
    max_ratio: int,
    alerts: AlertConfig,
) -> JobConfig:
    """Return the configuration that command-line options and the environment describe. Raises ValueError."""
    return JobConfig(
        elasticsearch=ElasticsearchConfig.from_environment(os.environ),
        dead_letters=dead_letter,
        buckets=tuple(buckets),
        windows=parse_windows(window),
        names=tuple(text_format.split()),
        retry_for=retry_for,
        limits=Limits(plain_bytes=max_plain_bytes, ratio=max_ratio),
        bulk=BulkConfig(retry_for=retry_for),
        alerts=alerts,
    )


def alert_config(rules: Path | None, webhook_url: str, topic_arn: str) -> AlertConfig:
    """Return what options say of alerts. Raises ValueError."""
    return AlertConfig(read_rules(rules) if rules else DEFAULT_RULES, webhook_url, topic_arn)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error into one line on stderr and an exit code: 2 for wrong arguments, 1 for what failed."""
    try:
        yield
    except ValueError as error:
        _say(str(error))
        raise typer.Exit(USAGE) from error
    except typer.Exit:
        raise
    except TransportError as error:
        _say(
            f"Elasticsearch at {_address()} does not answer ({error}): check ELASTICSEARCH_URL, or start one on this "
            "machine with `flowlogs local up`"
        )
        raise typer.Exit(FAILED) from error
    except (AuthenticationException, AuthorizationException) as error:
        _say(f"Elasticsearch at {_address()} refuses the credentials ({error}): check ELASTICSEARCH_API_KEY")
        raise typer.Exit(FAILED) from error
    except Exception as error:
        logging.getLogger("beam_flowlogs").debug("failed", exc_info=True)
        _say(_gist(error))
        raise typer.Exit(FAILED) from error


def _address() -> str:
    return os.environ.get("ELASTICSEARCH_URL") or os.environ.get("ELASTICSEARCH_CLOUD_ID", "")


def _gist(error: Exception) -> str:
    """Return what an error says: Beam wraps a worker's error in its traceback, whose last line is the message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    gist = lines[-1].strip() if lines else type(error).__name__
    return gist.partition(" [while running")[0]


def _say(message: str) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {_escape(message)}", soft_wrap=True)


def _escape(message: str) -> str:
    return message.replace("[", r"\[")


def log_to_stderr(*, verbose: bool) -> None:
    """Log warnings, and with ``verbose`` what is done, to stderr. Call it before Beam is imported, which logs too."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("beam_flowlogs").setLevel(logging.INFO if verbose else logging.WARNING)
    # What Beam says of a failure is a traceback; the command says it in one line.
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # the sink says what fails, now and then
    logging.getLogger("apache_beam").setLevel(logging.WARNING if verbose else logging.CRITICAL)


class _ProgressLine(logging.Handler):
    """Shows how far a job in this process is, from what it logs of each object; warnings are shown as they come."""

    _EVERY_S = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("Receiving ...") if self._console.is_terminal else None
        self._objects = self._documents = 0
        self._told = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._console.print(f"Warning: {_escape(record.getMessage())}", soft_wrap=True)
        documents = getattr(record, "documents", None)
        if documents is None:
            return
        self._objects += 1
        self._documents += documents
        line = f"{self._objects:,} objects, {self._documents:,} documents"
        if self._status:
            self._status.update(line)
        elif time.monotonic() - self._told > self._EVERY_S:
            self._told = time.monotonic()
            self._console.print(line)

    def __enter__(self) -> None:
        logger = logging.getLogger("beam_flowlogs")
        logger.addHandler(self)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        if self._status:
            self._status.start()

    def __exit__(self, *_: object) -> None:
        logging.getLogger("beam_flowlogs").removeHandler(self)
        if self._status:
            self._status.stop()


def progress(*, verbose: bool) -> AbstractContextManager[None]:
    """Show the progress of a job that runs within the ``with``; with ``verbose`` its log lines do that."""
    return nullcontext() if verbose else _ProgressLine()


def print_json(data: object) -> None:
    """Print data for a program to read."""
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2))


def show_counts(title: str, counts: object, *, as_json: bool) -> None:
    """Print a dataclass of counts as a table of those that are not 0, or as JSON."""
    found = asdict(counts)  # type: ignore[call-overload]
    if as_json:
        print_json(found)
        return
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, count in found.items():
        if count:
            table.add_row(name.replace("_", " "), f"{count:,}")
    Console().print(table if table.row_count else f"{title}: nothing to do")
