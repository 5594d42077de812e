"""Alerts on a real Elasticsearch: one document an episode, whatever is evaluated again; and notices of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_history import AlertHistory, Series
from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_rules import Finding, Rule
from beam_flowlogs.alert_store import ALERT_INDEX, AlertStore, Evaluated, Subject, gap_s
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.reject import DeadLetters, Selection
from beam_flowlogs.rollup import COUNTERS, MergedRollUp, Part, RollUpKey
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.run import replay
from beam_flowlogs.transforms.detect import Detect, Watched, encode_watched
from beam_flowlogs.transforms.progress import Progress
from tests.integration.test_alert_notice import Hook

pytestmark = pytest.mark.integration

START = 1_764_000_000
GAP = gap_s(60) // 60
RULE = Rule("too-much", "bytes-above", "high", {"bytes": 10})
SUBJECT = Subject("too-much", 60, "interface", "eni-1")
ABOUT = {"aws": {"vpcflow": {"interface_id": "eni-1"}}, "cloud": {"account": {"id": "1"}}}


@pytest.fixture
def config(elasticsearch: ElasticsearchServer) -> Iterator[ElasticsearchConfig]:
    config = ElasticsearchConfig(urls=(elasticsearch.url,))
    client = connect(config)
    client.options(ignore_status=404).indices.delete(index=ALERT_INDEX)
    set_up(client)
    yield config
    client.options(ignore_status=404).indices.delete(index=ALERT_INDEX)


def store(config: ElasticsearchConfig) -> AlertStore:
    return AlertStore(lambda: connect(config), bulk_writer(config, BulkConfig(retry_for=30)), retry_for=30)


def evaluate(config: ElasticsearchConfig, *minutes: int, until: int, subject: Subject = SUBJECT) -> list[str]:
    """Bring the alert of a subject up to date; return the statuses that are news."""
    findings = [Finding(START + 60 * minute, 10 + minute, 10, f"{minute}") for minute in minutes]
    current = store(config).merge({subject: Evaluated(RULE, findings, START + 60 * until, ABOUT)})
    return [alert.status for alert in current.current if alert.status != alert.before]


def alerts(config: ElasticsearchConfig) -> list[tuple[str, int, int]]:
    """The alerts there are: status, number of windows, Elasticsearch's version."""
    client = connect(config)
    client.indices.refresh(index=ALERT_INDEX)
    answer = client.search(index=ALERT_INDEX, version=True, sort="event.start")
    told = [(hit["_source"]["flowlogs"]["alert"], hit["_version"]) for hit in answer["hits"]["hits"]]
    return [(alert["status"], alert["count"], version) for alert, version in told]


def test_an_episode_opens_goes_on_and_closes_in_one_document(config: ElasticsearchConfig) -> None:
    assert evaluate(config, 0, until=0) == ["open"]
    assert evaluate(config, 1, 2, until=2) == []
    assert alerts(config) == [("open", 3, 2)]

    assert evaluate(config, until=2 + GAP) == []
    assert evaluate(config, until=3 + GAP) == ["closed"]
    assert alerts(config) == [("closed", 3, 3)]


def test_the_same_roll_ups_again_change_nothing(config: ElasticsearchConfig) -> None:
    evaluate(config, 0, 1, until=20)

    assert evaluate(config, 0, 1, until=20) == []
    assert evaluate(config, 1, until=30) == []
    assert evaluate(config, 1, until=1) == []
    assert alerts(config) == [("closed", 2, 1)]


def test_episodes_apart_are_alerts_of_their_own(config: ElasticsearchConfig) -> None:
    assert evaluate(config, 0, 1, 20, until=20) == ["closed", "open"]
    assert [(status, count) for status, count, _ in alerts(config)] == [("closed", 2), ("open", 1)]


def test_a_window_that_comes_late_joins_the_episode_that_is_there(config: ElasticsearchConfig) -> None:
    evaluate(config, 5, until=6)
    evaluate(config, 3, until=3)

    assert [(status, count) for status, count, _ in alerts(config)] == [("open", 2)]


def test_a_late_window_between_two_episodes_makes_one_of_them_and_leaves_none_open(config: ElasticsearchConfig) -> None:
    evaluate(config, 0, 20, until=20)
    evaluate(config, 10, until=20)

    assert [(status, count) for status, count, _ in alerts(config)] == [("open", 3), ("closed", 1)]


def test_what_goes_on_for_days_is_an_alert_a_day(config: ElasticsearchConfig) -> None:
    day = 24 * 60
    for begin in (0, day // 2, day, day + day // 2):
        evaluate(config, *range(begin, begin + day // 2, 10), until=begin + day // 2)

    assert [(status, count) for status, count, _ in alerts(config)] == [("closed", day // 10), ("open", day // 10)]


def test_an_alert_of_an_interface_that_is_gone_closes_when_others_are_an_hour_ahead(
    config: ElasticsearchConfig,
) -> None:
    other = SUBJECT._replace(key="eni-2")
    evaluate(config, 0, until=0)

    assert evaluate(config, until=60, subject=other) == []
    assert evaluate(config, until=62, subject=other) == ["closed"]


def test_an_interface_whose_clock_is_fast_closes_no_alert_of_another(config: ElasticsearchConfig) -> None:
    now = (int(time.time()) - START) // 60
    other = SUBJECT._replace(key="eni-2")
    evaluate(config, now - 10, until=now - 10)

    assert evaluate(config, until=now + 24 * 60, subject=other) == []


def test_writers_at_the_same_time_lose_no_window(config: ElasticsearchConfig) -> None:
    gate = threading.Barrier(3)

    def write(minute: int) -> None:
        gate.wait()
        evaluate(config, minute, until=2)

    evaluate(config, 3, until=3)
    threads = [threading.Thread(target=write, args=[minute]) for minute in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(status, count) for status, count, _ in alerts(config)] == [("open", 4)]


def test_an_alert_is_untold_until_somebody_was_told_of_its_status(config: ElasticsearchConfig) -> None:
    def untold(*minutes: int, until: int) -> list[str]:
        findings = [Finding(START + 60 * minute, 10, 10, "") for minute in minutes]
        found = store(config).merge({SUBJECT: Evaluated(RULE, findings, START + 60 * until, ABOUT)})
        news = [alert for alert in found.current if alert.is_untold]
        store(config).mark_told(alert.document for alert in news[:told])
        return [alert.status for alert in news]

    told = 0
    assert untold(0, until=0) == ["open"]
    told = 1
    assert untold(until=1) == ["open"]
    assert untold(until=2) == []
    assert untold(until=20) == ["closed"]
    assert untold(until=21) == []


WINDOWS = [RollUpKey(60, START + 60 * minute, "interface", "eni-history") for minute in range(8)]


@pytest.fixture
def rolled_up(config: ElasticsearchConfig) -> Iterator[dict[RollUpKey, MergedRollUp]]:
    """Eight windows of one interface in Elasticsearch, the last with SKIPDATA; each has as many flows as its place."""
    client = connect(config)
    client.options(ignore_status=404).indices.delete(index=WINDOWS[0].index_name)
    writer = bulk_writer(config, BulkConfig(retry_for=30))
    found = {}
    for place, key in enumerate(WINDOWS):
        counters = [0] * len(COUNTERS)
        counters[COUNTERS.index("flows")] = place
        counters[COUNTERS.index("skipdata")] = int(key == WINDOWS[-1])
        found[key] = [Part("object", tuple(counters), key.start * 1000, key.start * 1000, {"account_id": "1"})]
    yield dict(RollUpStore(lambda: connect(config), writer, retry_for=30).merge(found).rollups)
    client.options(ignore_status=404).indices.delete(index=WINDOWS[0].index_name)


def test_a_new_worker_reads_the_past_from_the_roll_ups_and_remembers_it(
    config: ElasticsearchConfig, rolled_up: dict[RollUpKey, MergedRollUp]
) -> None:
    series = Series(60, "interface", "eni-history")
    asked: list[None] = []

    def counted() -> Elasticsearch:
        asked.append(None)
        return connect(config)

    history = AlertHistory(counted, retry_for=30)
    new = {WINDOWS[6].start: Past(600, 0, 0, 0, (), ())}

    known = history.extend({series: new})[series]
    again = history.extend({series: {WINDOWS[7].start: Past(700, 0, 0, 0, (), ())}})[series]

    assert [known[key.start].flows for key in WINDOWS[:7]] == [0, 1, 2, 3, 4, 5, 600]
    assert [again[key.start].flows for key in WINDOWS] == [0, 1, 2, 3, 4, 5, 600, 700]
    assert len(asked) == 1


def test_the_docs_question_lists_interfaces_by_when_they_were_last_heard_of(
    config: ElasticsearchConfig, rolled_up: dict[RollUpKey, MergedRollUp]
) -> None:
    client = connect(config)
    client.indices.refresh(index=WINDOWS[0].index_name)
    page = (Path(__file__).parents[2] / "docs/alerts.md").read_text()
    question = json.loads(page.split("GET flowlogs-rollup-*/_search\n")[1].split("```")[0])
    assert client.search(index="flowlogs-rollup-*", **question)["timed_out"] is False
    question["query"] = {"terms": {"flowlogs.rollup.key": ["eni-history"]}}  # those of the test are not of today

    (bucket,) = client.search(index="flowlogs-rollup-*", **question)["aggregations"]["interfaces"]["buckets"]

    assert (bucket["key"], bucket["last"]["value"]) == ("eni-history", max(key.start for key in rolled_up) * 1000)


def test_roll_ups_become_alerts_progress_and_one_notice(
    config: ElasticsearchConfig,
    rolled_up: dict[RollUpKey, MergedRollUp],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    hook = Hook(refusals=0)
    monkeypatch.setenv("HOOK_PIPELINE", f"http://127.0.0.1:{hook.server.server_port}/")
    monkeypatch.setattr("beam_flowlogs.alert_notice._RECENT_S", float("inf"))
    job = JobConfig(config, str(tmp_path), ("logs",), alerts=AlertConfig(webhook="env:HOOK_PIPELINE"), retry_for=30)
    watched = list(encode_watched((key, rollup, ["token"] * 2) for key, rollup in rolled_up.items()))

    for _ in range(2):
        with TestPipeline(runner="FnApiRunner") as pipeline:
            progress = pipeline | beam.Create(watched).with_output_types(Watched) | Detect(job)
            assert_that(
                progress | beam.CombinePerKey(_merged), equal_to([("token", 2 * len(WINDOWS))]), label="progress"
            )
    hook.server.shutdown()

    assert [alert["rule"]["name"] for alert in hook.heard] == ["skipdata"]
    assert hook.heard[0]["cloud"] == {"account": {"id": "1"}}
    assert [(status, count) for status, count, _ in alerts(config)] == [("open", 1)]


def test_a_refused_alert_is_a_dead_letter_and_comes_back_by_a_replay(
    config: ElasticsearchConfig, rolled_up: dict[RollUpKey, MergedRollUp], tmp_path: Path
) -> None:
    client = connect(config)
    client.options(ignore_status=404).indices.delete(index=ALERT_INDEX)
    client.indices.create(index=ALERT_INDEX, mappings={"properties": {"message": {"type": "date"}}})
    job = JobConfig(config, str(tmp_path), ("logs",), retry_for=30)
    watched = list(encode_watched((key, rollup, ["token"] * 2) for key, rollup in rolled_up.items()))

    with TestPipeline(runner="FnApiRunner") as pipeline:
        progress = pipeline | beam.Create(watched).with_output_types(Watched) | Detect(job)
        assert_that(progress | beam.CombinePerKey(_merged), equal_to([("token", 2 * len(WINDOWS))]))

    assert [reject.stage for _, reject in DeadLetters(str(tmp_path)).read()] == ["alert"]
    assert replay(job, Selection(), []).dead_letters_kept == 1
    client.indices.delete(index=ALERT_INDEX)
    set_up(client)
    assert replay(job, Selection(), []).dead_letters_replayed == 1
    assert alerts(config) == [("open", 1, 1)]


def _merged(found: Iterable[Any]) -> int:
    return sum(Progress.decode(entry).merged if isinstance(entry, bytes) else entry for entry in found)
