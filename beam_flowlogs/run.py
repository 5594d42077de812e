"""Whole jobs: a configuration and Beam's own arguments in, what was done out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from beam_flowlogs.beam_options import DEFAULT_RUNNER
from beam_flowlogs.config import JobConfig
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import Selection
from beam_flowlogs.sqs_queue import MAX_RECEIVES, QueueConfig
from beam_flowlogs.transforms.acknowledge import Acknowledge
from beam_flowlogs.transforms.index_flow_logs import IndexFlowLogs
from beam_flowlogs.transforms.list_objects import ListObjects
from beam_flowlogs.transforms.metrics import forget_examples, read_outcome
from beam_flowlogs.transforms.read_notifications import Announced, ReadNotifications, StreamNotifications
from beam_flowlogs.transforms.replay_dead_letters import ReplayDeadLetters
from beam_flowlogs.visibility import keeper

_logger = logging.getLogger(__name__)


def drain(
    config: JobConfig,
    queue_url: str,
    beam_args: Sequence[str],
    *,
    limit: int = 1000,
    max_receives: int = MAX_RECEIVES,
) -> Outcome:
    """Index what a queue announces until it is empty, in rounds of at most ``limit`` messages; return what was done.

    A round's messages are deleted at its end at the latest; when one fails, those not deleted go back to the queue.
    """
    total = Outcome()
    while True:
        pipeline = _pipeline(beam_args)
        announced = pipeline | "ReadNotifications" >> ReadNotifications(
            queue_url, config, limit=limit, max_receives=max_receives
        )
        _index(announced, config)
        done = _run(pipeline)
        total = total.plus(done)
        # A round that met messages tried before may have ended before the queue was empty.
        if done.messages_received < limit and not done.messages_redelivered:
            return total


def stream(config: JobConfig, queue: QueueConfig, beam_args: Sequence[str]) -> PipelineResult:
    """Start to index what queues announce, for ever; return what the runner says of the job, which goes on by itself.

    ``beam_args`` have to name a runner that can stream, such as Flink.
    """
    pipeline = beam.Pipeline(options=PipelineOptions(["--streaming", *beam_args]))
    _index(pipeline | "ReadNotifications" >> StreamNotifications(queue, config), config)
    return pipeline.run()


def backfill(
    config: JobConfig, urls: Sequence[str], beam_args: Sequence[str], slots: SlotRange | None = None
) -> Outcome:
    """Index the objects (of some slots only, or all) below ``s3://bucket/prefix`` locations; return what was done."""
    pipeline = _pipeline(beam_args)
    _ = pipeline | "ListObjects" >> ListObjects(urls, config, slots) | "IndexFlowLogs" >> IndexFlowLogs(config)
    return _run(pipeline)


def replay(config: JobConfig, selection: Selection, beam_args: Sequence[str]) -> Outcome:
    """Put dead letters through again and settle the files of what went through; return what was done."""
    pipeline = _pipeline(beam_args)
    _ = pipeline | "ReplayDeadLetters" >> ReplayDeadLetters(config, selection)
    return _run(pipeline)


def _index(announced: Announced, config: JobConfig) -> None:
    """Wire the way from the announcement of objects to the end of their messages."""
    progress = announced.objects | "IndexFlowLogs" >> IndexFlowLogs(config)
    _ = (announced.messages, *progress) | "Acknowledge" >> Acknowledge(config)


def _run(pipeline: beam.Pipeline) -> Outcome:
    forget_examples()
    try:
        result = pipeline.run()
        result.wait_until_finish()
    finally:
        given_back = keeper().give_back()
        if given_back:
            _logger.warning("%d messages were given back to the queue: they will be delivered again", given_back)
    return read_outcome(result)


def _pipeline(beam_args: Sequence[str]) -> beam.Pipeline:
    """Return a pipeline that runs in this process unless told otherwise."""
    args = list(beam_args)
    if not any(arg.split("=")[0] == "--runner" for arg in args):
        args.append(f"--runner={DEFAULT_RUNNER}")
    return beam.Pipeline(options=PipelineOptions(args))
