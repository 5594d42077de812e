"""How roll-ups get to the rules: routed by key in an endless job, and some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import apache_beam as beam
import orjson
import pytest
from apache_beam.portability import common_urns
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to

from beam_flowlogs.alert_history import Series
from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_rules import Rule
from beam_flowlogs.alert_store import MergedAlerts
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.rollup import COUNTERS, MergedRollUp, Part, RollUpKey, merge
from beam_flowlogs.transforms.detect import Detect, Watched, _EvaluateFn, _OneWorkerFn, encode_watched
from beam_flowlogs.transforms.progress import Progress
from tests.test_alert_history import Cluster as RollUpCluster
from tests.test_alert_store import Cluster as AlertCluster

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


MIDNIGHT = 1_764_028_800
RULE = Rule("too-much", "bytes-above", "high", {"bytes": 10})


def watched_of(minutes: Iterable[int]) -> list[Watched]:
    """What the rule sees of an interface in minutes from midnight: it holds ten minutes before and after."""
    found: list[tuple[RollUpKey, MergedRollUp, list[str]]] = []
    for minute in minutes:
        start = MIDNIGHT + 60 * minute
        counters = [100 if name == "bytes" and -10 <= minute < 10 else 0 for name in COUNTERS]
        key = RollUpKey(60, start, "interface", "eni-1")
        found.append((key, merge(key, None, [Part("object", counters, start * 1000, start * 1000, {})]), ["token"]))
    return list(encode_watched(found))


class Cluster(AlertCluster):
    """Keeps alerts, and has roll-ups: a backfill has written all of them before it evaluates the first."""

    def __init__(self, minutes: Iterable[int]) -> None:
        super().__init__()
        self.msearch = RollUpCluster([MIDNIGHT + 60 * minute for minute in minutes]).msearch


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster(range(-120, 120))
    monkeypatch.setattr("beam_flowlogs.transforms.detect.connect", lambda _: found)
    monkeypatch.setattr("beam_flowlogs.transforms.detect.bulk_writer", lambda *_: found)
    return found


def alerts(cluster: Cluster) -> list[tuple[str, int]]:
    found = [document["flowlogs"]["alert"] for document in cluster.stored.values()]
    return [(alert["status"], alert["count"]) for alert in found]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("first", ["day before", "day after"])
def test_an_episode_over_midnight_is_one_alert_whichever_day_comes_first(
    cluster: Cluster, first: str, workers: int
) -> None:
    days = [watched_of(range(-120, 0)), watched_of(range(120))]
    evaluators = [_EvaluateFn(replace(CONFIG, alerts=AlertConfig((RULE,)))) for _ in range(workers)]
    for evaluate in evaluators:
        evaluate.setup()
        evaluate.start_bundle()

    for day in days if first == "day before" else days[::-1]:
        evaluate = evaluators.pop(0)
        list(evaluate.process((day[0][0], [data for _, data in day])))
        list(evaluate.finish_bundle())
        evaluators.append(evaluate)

    ((status, count),) = alerts(cluster)
    assert count == 20
    assert status == "closed" or workers == 2, "who has seen both days knows that it is over"


def test_a_backfill_evaluates_a_day_of_a_shard_at_a_time_in_order(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_time: list[list[int]] = []
    process = _EvaluateFn.process

    def recorded(self: _EvaluateFn, element: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, bytes]]:
        shard, found = element
        together = list(found)
        at_a_time.append([(orjson.loads(data)[0] - MIDNIGHT) // 60 for data in together])
        return process(self, (shard, together))

    monkeypatch.setattr(_EvaluateFn, "process", recorded)
    with TestPipeline(runner="FnApiRunner") as pipeline:
        mixed = watched_of([*range(0, 120, 2), *range(-120, 0), *range(119, 0, -2)])
        watched = pipeline | beam.Create(mixed).with_output_types(Watched)
        _ = watched | "Detect" >> Detect(replace(CONFIG, alerts=AlertConfig((RULE,))))

    assert sorted(at_a_time) == [list(range(-120, 0)), list(range(120))]
    assert alerts(cluster) == [("closed", 20)]


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
