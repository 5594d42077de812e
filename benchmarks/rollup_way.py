"""Parts of roll-ups through the whole of a job's second half: grouped, merged, rules evaluated, on the runner itself.

Elasticsearch is played by objects that answer at once, so what is measured is ours and the runner's. Parts are a
module's, since a step that held them would be pickled with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.beam_options import DEFAULT_RUNNER
from beam_flowlogs.bulk import BulkResult
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.rollup import Part, RollUpKey
from beam_flowlogs.transforms import detect, roll_up
from beam_flowlogs.transforms.group_parts import keyed_parts

_parts: Sequence[tuple[RollUpKey, Part]] = ()


class _Writer:
    def write(self, items: pa.Array) -> BulkResult:
        return BulkResult(written=len(items))


class _Client:
    """Has nothing, and says so."""

    def __init__(self) -> None:
        self.indices = mock.Mock()

    def search(self, **_: Any) -> dict[str, Any]:
        return {"hits": {"hits": []}}

    def msearch(self, *, searches: Sequence[Any], **_: Any) -> dict[str, Any]:
        return {"responses": [{"hits": {"hits": []}}] * (len(searches) // 2)}


class _GiveFn(beam.DoFn):
    def process(self, token: str) -> Iterator[WindowedValue]:
        for shard, value in keyed_parts(token, _parts):
            yield beam.window.TimestampedValue((shard.encode(), value), Timestamp(shard.start))


def cpu_of(parts: Sequence[tuple[RollUpKey, Part]], *, rules: bool) -> float:
    """Return the CPU-seconds that a job takes for parts, less those of a job without any."""
    client = _Client()
    with (
        mock.patch.object(roll_up, "bulk_writer", return_value=_Writer()),
        mock.patch.object(detect, "bulk_writer", return_value=_Writer()),
        mock.patch.object(roll_up, "connect", return_value=client),
        mock.patch.object(detect, "connect", return_value=client),
    ):
        idle = _run((), rules=rules)
        return _run(parts, rules=rules) - idle


def _run(parts: Sequence[tuple[RollUpKey, Part]], *, rules: bool) -> float:
    global _parts
    _parts = parts
    alerts = AlertConfig() if rules else AlertConfig(rules=())
    config = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead-letters", ("bucket",), alerts=alerts)
    pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={DEFAULT_RUNNER}"]))
    given = pipeline | beam.Create(["token"]) | beam.ParDo(_GiveFn()).with_output_types(tuple[str, bytes])
    _ = given | roll_up.RollUp(config)
    began = time.process_time()
    pipeline.run().wait_until_finish()
    return time.process_time() - began
