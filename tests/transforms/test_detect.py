"""How roll-ups get to the rules: routed by key in an endless job, and some at a time."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to

from beam_flowlogs.alert_history import Series
from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_store import MergedAlerts
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey, merge
from beam_flowlogs.transforms.detect import Detect, Watched, _EvaluateFn, _OneWorkerFn, encode_watched
from beam_flowlogs.transforms.progress import Progress

START = 1_764_000_000

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


class Seen:
    """Stands in for the history and the store; remembers how many windows it was asked about at a time."""

    def __init__(self) -> None:
        self.windows: list[int] = []

    def extend(self, new: dict[Series, dict[int, Past]]) -> dict[Series, dict[int, Past]]:
        self.windows.append(sum(map(len, new.values())))
        return new

    def merge(self, _: object) -> MergedAlerts:
        return MergedAlerts([], [])


def test_windows_are_held_up_to_a_number_whosoever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_flowlogs.transforms.detect._WINDOWS_AT_ONCE", 50)
    seen = Seen()
    evaluate = _EvaluateFn(CONFIG)
    monkeypatch.setattr(evaluate, "_history", seen, raising=False)
    monkeypatch.setattr(evaluate, "_store", seen, raising=False)
    part = Part("object", [0] * len(COUNTERS), START * 1000, START * 1000, {})

    evaluate.start_bundle()
    told = []
    for number in range(3):
        keys = [RollUpKey(60, START + 60 * minute, "interface", f"eni-{number}") for minute in range(40)]
        watched = list(encode_watched((key, merge(key, None, [part]), ["token"]) for key in keys))
        told += list(evaluate.process((watched[0][0], [data for _, data in watched])))
    told += [value.value for value in evaluate.finish_bundle()]

    assert seen.windows == [50, 50, 20]
    assert sum(Progress.decode(data).merged for _, data in told) == 120
