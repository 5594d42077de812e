"""How roll-ups get to the rules in an endless job."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.portability import common_urns
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.transforms.detect import Detect, Watched, _OneWorkerFn

CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead-letters", ("logs",))
ROLL_UPS = [("eni-1", b"1"), ("eni-2", b"2"), ("eni-1", b"3")]


def primitives(*, endless: bool) -> set[str]:
    pipeline = beam.Pipeline()
    source = TestStream().with_output_types(Watched) if endless else beam.Create(ROLL_UPS).with_output_types(Watched)
    _ = pipeline | source | "Detect" >> Detect(CONFIG)
    transforms = pipeline.to_runner_api().components.transforms.values()
    return {transform.spec.urn for transform in transforms if transform.unique_name.startswith("Detect")}


def test_an_endless_job_keeps_nothing_of_the_interfaces_that_it_has_seen() -> None:
    group_by_key = common_urns.primitives.GROUP_BY_KEY.urn

    assert group_by_key in primitives(endless=False)
    assert group_by_key not in primitives(endless=True)


def test_roll_ups_go_on_one_by_one_as_they_come() -> None:
    with TestPipeline(runner="FnApiRunner") as pipeline:
        watched = pipeline | beam.Create(ROLL_UPS).with_output_types(Watched)
        found = watched | beam.ParDo(_OneWorkerFn()) | beam.MapTuple(lambda series, data: (series, *data))
        assert_that(found, equal_to(ROLL_UPS))
