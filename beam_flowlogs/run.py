"""Whole jobs: a configuration and Beam's own arguments in, what was done out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from beam_flowlogs.beam_options import DEFAULT_RUNNER, runner_of
from beam_flowlogs.config import JobConfig
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import Selection
from beam_flowlogs.s3_object import ObjectRef, parse_s3_url
from beam_flowlogs.sqs_queue import MAX_RECEIVES, QueueConfig
from beam_flowlogs.transforms.acknowledge import Acknowledge
from beam_flowlogs.transforms.announce import encode_ref
from beam_flowlogs.transforms.index_flow_logs import IndexFlowLogs
from beam_flowlogs.transforms.list_objects import SKIPPED, ListObjects, log_files
from beam_flowlogs.transforms.metrics import forget_examples, read_outcome
from beam_flowlogs.transforms.progress import NO_MESSAGE
from beam_flowlogs.transforms.read_notifications import Announced, ReadNotifications, StreamNotifications
from beam_flowlogs.transforms.replay_dead_letters import ReplayDeadLetters
from beam_flowlogs.visibility import keeper

_ROUND_OBJECTS = 1_000
_ROUND_BYTES = 256 << 20
"""Stored: some ten million records, whose parts of roll-ups take a few hundred megabytes at most."""

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
    """Index the objects (of some slots only, or all) below ``s3://bucket/prefix`` locations; return what was done.

    In this process it is done in rounds, since the runner holds what lies between two steps in memory.
    """
    slots = slots or SlotRange()
    if runner_of(beam_args) != DEFAULT_RUNNER:
        pipeline = _pipeline(beam_args)
        _ = pipeline | "ListObjects" >> ListObjects(urls, config, slots) | "IndexFlowLogs" >> IndexFlowLogs(config)
        return _run(pipeline)
    skipped: Counter[str] = Counter()
    found = (
        ref
        for bucket, prefix in map(parse_s3_url, urls)
        for ref in log_files(bucket, prefix, config, slots, lambda why: skipped.update([why]))
    )
    total = Outcome()
    for some in rounds(found):
        pipeline = _pipeline(beam_args)
        listed = pipeline | "Listed" >> beam.Create([(NO_MESSAGE, encode_ref(ref)) for ref in some]).with_output_types(
            tuple[str, bytes]
        )
        _ = listed | "IndexFlowLogs" >> IndexFlowLogs(config)
        total = total.plus(_run(pipeline))
    left_out = {name: skipped[name] for name in SKIPPED}
    return total.plus(Outcome(**left_out))  # type: ignore[arg-type]


def rounds(refs: Iterable[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """Cut objects into rounds that are bounded in their number and their bytes, one at least."""
    some: list[ObjectRef] = []
    size = 0
    for ref in refs:
        if some and (len(some) >= _ROUND_OBJECTS or size + max(ref.size, 0) > _ROUND_BYTES):
            yield some
            some, size = [], 0
        some.append(ref)
        size += max(ref.size, 0)
    if some:
        yield some


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
