"""What a job's steps have counted, as one outcome; and dead letters that count what goes into them."""

from __future__ import annotations

import orjson
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.runners.runner import PipelineResult

from beam_flowlogs.config import JobConfig
from beam_flowlogs.outcome import COUNTS, Outcome, SetAside
from beam_flowlogs.reject import DeadLetters, Reject

_NAMESPACE = "flowlogs"
_PREFIX = "set_aside_"
_EXAMPLES = "examples"

_MOST_EXAMPLES = 100
"""Examples that a process gives: enough for every reason and some buckets, and few enough for a metric."""
_MOST_TEXT = 600

_examples: dict[tuple[str, str, str], str] = {}
"""What this process has given: the same ones every time, so that the set of them stays small."""


def counted_dead_letters(config: JobConfig) -> DeadLetters:
    """Return the job's dead letters; each reject is counted by stage and reason once it is durable."""
    return DeadLetters(config.dead_letters, retry_for=config.retry_for, tell=_count)


def _count(example: Reject, count: int) -> None:
    Metrics.counter(_NAMESPACE, f"{_PREFIX}{example.stage}_{example.reason}").inc(count)
    name = (example.stage, example.reason, example.bucket)
    if name in _examples or len(_examples) < _MOST_EXAMPLES:
        text = _examples.setdefault(name, orjson.dumps([*name, example.detail[:_MOST_TEXT]]).decode())
        Metrics.string_set(_NAMESPACE, _EXAMPLES).add(text)


def forget_examples() -> None:
    """Give others for the next job of this process."""
    _examples.clear()


def read_outcome(result: PipelineResult) -> Outcome:
    """Return what a job that is over has done, as far as its runner tells."""
    metrics = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))
    counts = dict.fromkeys(COUNTS, 0)
    groups = Outcome()
    for counter in metrics["counters"]:
        name, count = counter.key.metric.name, counter.result or 0
        if name in counts:
            counts[name] += count
        elif name.startswith(_PREFIX) and count:
            stage, _, reason = name.removeprefix(_PREFIX).partition("_")
            groups = groups.plus(Outcome(set_aside=(SetAside(stage, reason, count),)))
    for found in metrics["string_sets"]:
        if found.key.metric.name == _EXAMPLES:
            for stage, reason, bucket, detail in sorted(map(orjson.loads, found.result or ())):
                group = SetAside(stage, reason, 0, detail, (bucket,) if bucket else ())
                groups = groups.plus(Outcome(set_aside=(group,)))
    return Outcome(**counts, set_aside=groups.set_aside)
