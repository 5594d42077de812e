"""``flowlogs generate``: arguments in, generated flow logs and their truth out."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_flowlogs.cli.errors import FAILED, say_error, wrong_arguments
from beam_flowlogs.cli.wording import command, count_of, size_of
from beam_flowlogs.fields import TRANSIT_GATEWAY_FORMAT, parse_format, vpc_format
from beam_flowlogs.generate import (
    ALL_INCIDENTS,
    Compression,
    FileType,
    FolderSink,
    GeneratorConfig,
    Incident,
    KeyLayout,
    S3Sink,
    Truth,
    UploadError,
    default_start,
    parse_start,
)
from beam_flowlogs.generate import generate as run
from beam_flowlogs.s3_client import aws_session
from beam_flowlogs.s3_object import parse_s3_url

_INCIDENT_NAMES = ", ".join(incident.value for incident in ALL_INCIDENTS)
_SIZE, _FORMAT, _FILES = "How much", "Which records", "Which files"


def generate(
    destination: Annotated[
        str,
        typer.Argument(help="A folder, or s3://bucket/prefix (credentials, region and endpoint as boto3 finds them)."),
    ],
    records: Annotated[int, typer.Option(help="Records in all, exactly.", rich_help_panel=_SIZE)] = 200_000,
    accounts: Annotated[int, typer.Option(help="AWS accounts.", rich_help_panel=_SIZE)] = 3,
    regions: Annotated[int, typer.Option(help="Regions of each account.", rich_help_panel=_SIZE)] = 2,
    interfaces: Annotated[
        int, typer.Option(help="Network interfaces (or attachments) in all.", rich_help_panel=_SIZE)
    ] = 60,
    slots: Annotated[int, typer.Option(help="Five-minute delivery slots.", rich_help_panel=_SIZE)] = 6,
    objects_per_slot: Annotated[
        int, typer.Option(help="Objects of each account and region in a slot.", rich_help_panel=_SIZE)
    ] = 1,
    start: Annotated[
        str,
        typer.Option(
            help="Start of the first slot, in UTC (2026-01-31T12:05Z) or Unix seconds; default: so that the last slot "
            "ends now.",
            rich_help_panel=_SIZE,
        ),
    ] = "",
    seed: Annotated[
        int,
        typer.Option(help="Same seed, same --start, same arguments: same bytes.", rich_help_panel=_SIZE),
    ] = 1,
    version: Annotated[
        int | None,
        typer.Option(
            help="Every field up to this version (2 to 11), in AWS's order; default: 2, AWS's default format.",
            rich_help_panel=_FORMAT,
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="A custom format: field names in any order, such as 'interface-id bytes end log-status'.",
            rich_help_panel=_FORMAT,
        ),
    ] = "",
    tgw: Annotated[
        bool, typer.Option("--tgw", help="Records of transit gateways instead of VPCs.", rich_help_panel=_FORMAT)
    ] = False,
    aggregation: Annotated[
        int, typer.Option(help="Seconds of a capture window: 60 or 600.", rich_help_panel=_FORMAT)
    ] = 60,
    incidents: Annotated[
        str,
        typer.Option(
            help=f"all (that the other arguments have room for), none, or names joined by commas: {_INCIDENT_NAMES}.",
            rich_help_panel=_FORMAT,
        ),
    ] = "all",
    file: Annotated[FileType, typer.Option(help="File type; text is gzip.", rich_help_panel=_FILES)] = FileType.TEXT,
    parquet_compression: Annotated[
        Compression, typer.Option(help="Compression inside Parquet files.", rich_help_panel=_FILES)
    ] = Compression.GZIP,
    keys: Annotated[
        KeyLayout, typer.Option(help="Layout of the object keys.", rich_help_panel=_FILES)
    ] = KeyLayout.PLAIN,
    prefix: Annotated[str, typer.Option(help="Put this before AWSLogs/ in every key.", rich_help_panel=_FILES)] = "",
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the truth; default: truth.json in the folder, or here for S3.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make synthetic flow logs whose exact totals are known.

    Few talkers that talk much, requests and replies, refused knocks from the internet, interfaces without traffic.

    In it are incidents worth finding: see --incidents.

    truth.json tells what was written: every object, the totals of each interface and minute, and each incident.

    Examples:

    flowlogs generate ./logs

    flowlogs generate s3://my-logs --records 10000000 --keys hive

    flowlogs generate ./logs --version 11 --file parquet --incidents none
    """
    with wrong_arguments():
        config = GeneratorConfig(
            start=parse_start(start) if start else default_start(slots),
            records=records,
            accounts=accounts,
            regions=regions,
            interfaces=interfaces,
            slots=slots,
            objects_per_slot=objects_per_slot,
            aggregation=aggregation,
            names=_names(version, format_, tgw),
            tgw=tgw,
            file=file,
            compression=parquet_compression,
            keys=keys,
            prefix=prefix,
            seed=seed,
        )
        chosen = config.fitting_incidents() if incidents == "all" else _incidents(incidents)
        config = dataclasses.replace(config, incidents=chosen)
        if _is_s3(destination):
            parse_s3_url(destination)
        else:
            _refuse_other_generation(Path(destination), config)
    truth_file = truth or Path("truth.json" if _is_s3(destination) else f"{destination}/truth.json")
    began = time.monotonic()
    try:
        result = _run(config, destination)
        result.write(truth_file)
    except (UploadError, OSError) as error:
        say_error(f"cannot write to {destination}: {error}")
        raise typer.Exit(FAILED) from error
    _report(result, destination, truth_file, time.monotonic() - began, prefix=prefix, as_json=as_json)


def _refuse_other_generation(folder: Path, config: GeneratorConfig) -> None:
    """Raise ValueError where flow logs lie that the new truth would not tell of."""
    for there in (folder / "truth.json", folder / config.prefix.strip("/") / "AWSLogs"):
        if there.exists():
            raise ValueError(
                f"{there} is there already: {folder} holds other flow logs, which truth.json would not tell of. Give a "
                "new folder, or delete that one first"
            )


def _is_s3(destination: str) -> bool:
    return destination.startswith("s3://")


def _names(version: int | None, format_: str, tgw: bool) -> tuple[str, ...]:
    if version is not None and (format_ or tgw):
        raise ValueError("--version chooses among VPC fields by itself: leave out --format and --tgw, or --version")
    if format_:
        return parse_format(format_)
    return TRANSIT_GATEWAY_FORMAT if tgw else vpc_format(version or 2)


def _incidents(text: str) -> tuple[Incident, ...]:
    if text == "none":
        return ()
    names = dict.fromkeys(name.strip() for name in text.split(","))
    known = {incident.value: incident for incident in ALL_INCIDENTS}
    for name in names:
        if name not in known:
            raise ValueError(f"incident {name!r} is unknown: use all, none, or some of {_INCIDENT_NAMES}")
    return tuple(known[name] for name in names)


def _run(config: GeneratorConfig, destination: str) -> Truth:
    with _progress(config.records) as progress:
        if not _is_s3(destination):
            return run(config, FolderSink(Path(destination)), progress)
        bucket, folder = parse_s3_url(destination)
        prefix = "/".join(part for part in (folder.strip("/"), config.prefix.strip("/")) if part)
        # Unlike the pipeline, which waits for ever, a command that a person waits for gives up.
        client = aws_session().client("s3", config=Config(retries={"total_max_attempts": 8, "mode": "standard"}))
        with S3Sink(client, bucket) as sink:
            return run(dataclasses.replace(config, prefix=prefix), sink, progress)


@contextmanager
def _progress(records: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while a person watches; yield what moves it."""
    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=records)
        yield lambda done: bar.advance(task, done)


def _report(result: Truth, destination: str, truth_file: Path, seconds: float, *, prefix: str, as_json: bool) -> None:
    size = sum(entry["size"] for entry in result.objects)
    if as_json:
        summary: dict[str, Any] = {
            "destination": destination,
            "records": result.records,
            "by_status": result.by_status,
            "objects": len(result.objects),
            "bytes": size,
            "incidents": result.incidents,
            "truth": str(truth_file),
            "seconds": round(seconds, 3),
        }
        typer.echo(json.dumps(summary))
        return
    statuses = ", ".join(f"{count:,} {name}" for name, count in result.by_status.items())
    what = f"{count_of(result.records, 'record')} ({statuses}) in {count_of(len(result.objects), 'object')}"
    typer.echo(f"{what}, {size_of(size)}, to {destination} in {seconds:.1f} s")
    for note in result.incidents:
        begin, end = (time.strftime("%H:%M:%S", time.gmtime(note[name])) for name in ("start", "end"))
        typer.echo(f"  {note['kind']:<17} {note['interface']} from {begin} to {end} UTC")
    typer.echo(f"Exact totals: {truth_file}")
    if not _is_s3(destination):
        logs = shlex.quote(str(Path(destination, prefix, "AWSLogs")))
        url = "/".join(part for part in ("s3://BUCKET", prefix.strip("/"), "AWSLogs/") if part)
        typer.echo("To index them, put them into a bucket of yours, and read them there:")
        typer.echo(f"  aws s3 cp --recursive {logs} {url}")
        typer.echo(f"  {command('backfill', url)}")
