"""`flowlogs stream`: index what queues announce, for ever, on Flink."""

from __future__ import annotations

import os
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.beam_command import BeamCommand
from beam_flowlogs.cli.errors import FAILED, interrupted_when_terminated, one_line_errors, wrong_arguments
from beam_flowlogs.cli.logs import log_to_stderr, progress
from beam_flowlogs.cli.report import print_json, warn_of_rejects, wide_console
from beam_flowlogs.elastic.connection import connect
from beam_flowlogs.elastic.setup import check_set_up
from beam_flowlogs.flink_options import FlinkOptions
from beam_flowlogs.flink_rest import FlinkRest, Job, JobAt, Metrics
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.sqs_queue import QueueConfig

_START_S = 300
_PARTS = "flowlogs_"


class StreamCommand(BeamCommand):
    """Beam's options are those of the job server for Flink too."""

    runner = "PortableRunner"


class Action(str, Enum):
    """What to do with the job."""

    start = "start"
    stop = "stop"
    status = "status"


def stream(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(help="start, stop or status of the job.")] = Action.start,
    queue_url: Annotated[
        list[str] | None,
        typer.Option(help="An SQS queue that S3 notifies; repeat for several.", envvar="FLOWLOGS_QUEUE_URL"),
    ] = None,
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            help="Bucket that may be read; * and ? are allowed. Repeat for several.", envvar="FLOWLOGS_BUCKET"
        ),
    ] = None,
    job_endpoint: Annotated[
        str, typer.Option(help="Beam's job server for Flink, as host:port.", envvar="FLOWLOGS_JOB_ENDPOINT")
    ] = "",
    worker_pool: Annotated[
        str,
        typer.Option(
            help="Pool that starts the Python workers, as host:port seen from a TaskManager. Default: a container.",
            envvar="FLOWLOGS_WORKER_POOL",
        ),
    ] = "",
    flink_url: Annotated[
        str,
        typer.Option(help="Flink's REST interface: waits for the start, stop, status.", envvar="FLOWLOGS_FLINK_URL"),
    ] = "",
    job_name: Annotated[str, typer.Option(help="Name of the job in Flink.")] = "flowlogs",
    parallelism: Annotated[int, typer.Option(min=1, help="How many of each step run at once.")] = 2,
    checkpoint_every: Annotated[float, typer.Option(min=1, help="Seconds between checkpoints.")] = 10,
    from_savepoint: Annotated[str, typer.Option(help="start: savepoint or checkpoint to go on from.")] = "",
    savepoint: Annotated[bool, typer.Option("--savepoint", help="stop: make a savepoint and print its path.")] = False,
    savepoint_dir: Annotated[str, typer.Option(help="stop: where to make it. Default: as Flink is set up.")] = "",
    shards: Annotated[int, typer.Option(min=1, help="Pollers of each queue.")] = QueueConfig.shards,
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Messages under way in one worker, above which it receives no more.")
    ] = QueueConfig.max_in_flight,
    max_in_flight_bytes: Annotated[
        int, typer.Option(min=1, help="The same in bytes of the objects announced.")
    ] = QueueConfig.max_in_flight_bytes,
    max_receives: opt.MaxReceives = opt.DEFAULT_MAX_RECEIVES,
    visibility: Annotated[
        int, typer.Option(min=3, help="Seconds after which the messages of a dead worker come again.")
    ] = QueueConfig.visibility_s,
    delivery_delay: Annotated[
        int, typer.Option(min=0, help="Seconds within which AWS delivers: a roll-up counts as complete so much later.")
    ] = QueueConfig.delivery_delay_s,
    allowed_lateness: Annotated[
        str, typer.Option(help="Time after its end in which late parts of a roll-up are still merged together.")
    ] = "2h",
    local: Annotated[
        bool, typer.Option("--local", help="Without Flink: repeat bounded drains in this process, until interrupted.")
    ] = False,
    every: Annotated[float, typer.Option(min=0, help="--local: seconds between two drains.")] = 5,
    dead_letter: opt.DeadLetter = opt.DEFAULT_DEAD_LETTER,
    rollup_window: opt.Window = opt.DEFAULT_WINDOW,
    rollup_details: opt.Details = False,
    conversations: opt.Conversations = 0,
    text_format: opt.Format = "",
    rules: opt.Rules = None,
    webhook_url: opt.WebhookUrl = "",
    alerts_topic: opt.AlertsTopic = "",
    retry_for: opt.RetryFor = None,
    max_plain_bytes: opt.MaxPlainBytes = opt.DEFAULT_MAX_PLAIN_BYTES,
    max_ratio: opt.MaxRatio = opt.DEFAULT_MAX_RATIO,
    max_days: opt.MaxDays = opt.DEFAULT_MAX_DAYS,
    max_rollups: opt.MaxRollups = opt.DEFAULT_MAX_ROLLUPS,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Index the flow logs that queues announce as they come, on Flink.

    A message is deleted once everything made from it is durable; one whose worker dies comes again after --visibility
    seconds. The job goes on when this command has ended: `flowlogs stream status` tells how it is,
    `flowlogs stream stop --savepoint` ends it, and `flowlogs stream --from-savepoint PATH` goes on from there.

    With --local and no Flink, drains are repeated: as exact, for a machine of one's own or a small queue.

    Options that are not listed here go to Beam. Workers read credentials from their own environment, not from here.
    """
    log_to_stderr(verbose=verbose)
    if action is not Action.start:
        with wrong_arguments():
            rest = _flink(flink_url)
        with one_line_errors():
            if action is Action.status:
                _show_status(rest, job_name, as_json=as_json)
            else:
                _stop(rest, job_name, savepoint, savepoint_dir)
        return
    with wrong_arguments():
        queue = QueueConfig(
            tuple(queue_url or ()),
            shards=shards,
            max_in_flight=max_in_flight,
            max_in_flight_bytes=max_in_flight_bytes,
            max_receives=max_receives,
            visibility_s=visibility,
            delivery_delay_s=delivery_delay,
            job=JobAt(flink_url, job_name) if flink_url else None,
        )
        flink = None if local else FlinkOptions(
            job_endpoint, worker_pool, job_name, parallelism, checkpoint_every, from_savepoint
        )  # fmt: skip
        if not local and not _is_here(job_endpoint):
            opt.check_dead_letter(dead_letter, "the Flink at " + job_endpoint)
        config = opt.job_config(
            bucket or [],
            dead_letter=_absolute(dead_letter),
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
            lateness=allowed_lateness,
        )
    with one_line_errors(), interrupted_when_terminated():
        check_set_up(connect(config.elasticsearch))
        from beam_flowlogs import run  # here: importing Beam takes a second that help need not

        if flink is None:
            DeadLetters(config.dead_letters, retry_for=config.retry_for).check()
            with progress(verbose=verbose):
                while True:
                    for url in queue.urls:
                        done = run.drain(config, url, context.args, max_receives=max_receives)
                        warn_of_rejects(done, config)
                    time.sleep(every)
        before: list[Job] = []
        if flink_url:
            before = _flink(flink_url).jobs(job_name)
            with wrong_arguments():
                _refuse_a_second(before, job_name)
        run.stream(config, queue, [*flink.beam_args(), *context.args])
        if flink_url:
            job = _flink(flink_url).wait_until_running(job_name, _START_S, before)
            typer.echo(f"The job {job_name} runs: {flink_url}/#/job/{job.id}", err=True)
        else:
            typer.echo(f"The job {job_name} is handed in to {job_endpoint}", err=True)


def _flink(url: str) -> FlinkRest:
    if not url:
        raise ValueError("give --flink-url, the address of Flink's REST interface such as http://jobmanager:8081")
    return FlinkRest(url)


def _is_here(endpoint: str) -> bool:
    return endpoint.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")


def _absolute(location: str) -> str:
    """Return a folder as the workers find it, who run elsewhere in the same file system."""
    return location if "://" in location else str(Path(location).absolute())


def _refuse_a_second(jobs: list[Job], name: str) -> None:
    if any(not job.ended for job in jobs):
        raise ValueError(
            f"a job {name!r} runs already: stop it with `flowlogs stream stop`, or give another --job-name"
        )


def _stop(flink: FlinkRest, name: str, savepoint: bool, directory: str) -> None:
    job = flink.running(name)
    if savepoint:
        typer.echo(flink.stop(job.id, directory))
    else:
        flink.cancel(job.id)
        typer.echo(f"The job {name} is stopped; what it had under way will be delivered again.", err=True)


def _show_status(flink: FlinkRest, name: str, *, as_json: bool) -> None:
    jobs = flink.jobs(name)
    if not jobs:
        with wrong_arguments():
            raise ValueError(f"Flink knows no job {name!r}: start it with `flowlogs stream`, or give --job-name")
    job = jobs[0]
    checkpoints = flink.checkpoints(job.id)
    metrics = Metrics({}, {}) if job.ended else flink.metrics(job.id, _PARTS)
    failures = flink.exceptions(job.id)
    if as_json:
        distributions = {name: found._asdict() for name, found in metrics.distributions.items()}
        told = {"checkpoints": checkpoints._asdict(), "counters": metrics.counters, "distributions": distributions}
        print_json({**job._asdict(), **told, "failures": failures})
    else:
        table = Table(title=f"{name} is {job.state}", show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        table.add_row("started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started_ms / 1000)))
        table.add_row("checkpoints", f"{checkpoints.completed:,} complete, {checkpoints.failed:,} failed")
        if checkpoints.latest_path:
            latest = (
                f"{checkpoints.latest_age_s:.0f} s ago, {checkpoints.latest_bytes:,} bytes, {checkpoints.latest_ms} ms"
            )
            table.add_row("latest checkpoint", latest)
        for counter, count in sorted(metrics.counters.items()):
            table.add_row(counter.replace("_", " "), f"{count:,}")
        for distribution, found in sorted(metrics.distributions.items()):
            told_of = f"{found.total / found.times:,.0f} on average, {found.most:,} at most"
            table.add_row(distribution.replace("_", " "), told_of)
        table.add_row("restarts' causes", os.linesep.join(failures[:3]) or "none")
        wide_console().print(table)
    if job.ended:
        raise typer.Exit(FAILED)
