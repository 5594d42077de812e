"""What is read of the past, from an Elasticsearch that answers as told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_history import AlertHistory, Series
from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_rules import DEFAULT_RULES, evaluate
from beam_flowlogs.elastic.patience import NotReadable

START = 1_764_000_000 // 3600 * 3600
SERIES = Series(60, "interface", "eni-1")
BUSY = Past(5, 500, 0, 0, (), ())

BREAKER = {"type": "circuit_breaking_exception", "reason": "Data too large"}
REFUSED: dict[str, Any] = {"error": BREAKER, "status": 429}
PARTIAL: dict[str, Any] = {"hits": {"hits": []}, "_shards": {"failures": [{"shard": 0, "reason": BREAKER}]}}


class Cluster:
    """Roll-ups with traffic at the given starts; ``answers`` are given first."""

    def __init__(self, stored: Sequence[int] = (), *answers: dict[str, Any]) -> None:
        self.stored = sorted(stored, reverse=True)
        self.answers = list(answers)
        self.searches: list[dict[str, Any]] = []
        self.indices = self

    def refresh(self, **_: Any) -> None:
        pass

    def msearch(self, *, searches: Sequence[dict[str, Any]], **_: Any) -> Any:
        self.searches += searches[1::2]
        if self.answers:
            return {"responses": [self.answers.pop(0)] * (len(searches) // 2)}
        return {"responses": [{"hits": {"hits": self._hits(search)}} for search in searches[1::2]]}

    def _hits(self, search: dict[str, Any]) -> list[dict[str, Any]]:
        span = search["query"]["bool"]["filter"][-1]["range"]["@timestamp"]
        found = [start for start in self.stored if span["gte"] <= start * 1000 < span["lt"]]
        rolled = {"flows": 5, "bytes": 500, "rejected": {"flows": 0}, "nodata": 0}
        return [
            {"sort": [start * 1000], "_source": {"flowlogs": {"rollup": rolled}}} for start in found[: search["size"]]
        ]

    def history(self, retry_for: float = 30) -> AlertHistory:
        return AlertHistory(lambda: cast(Elasticsearch, self), retry_for=retry_for)


@pytest.mark.parametrize("answer", [REFUSED, PARTIAL])
def test_a_past_that_cannot_be_read_is_read_again_and_is_not_taken_for_none(answer: dict[str, Any]) -> None:
    cluster = Cluster([START - 60], answer)

    known = cluster.history().extend({SERIES: {START: BUSY}})

    assert sorted(known[SERIES]) == [START - 60, START]
    assert len(cluster.searches) == 2


def test_a_past_that_stays_unreadable_is_an_error_that_says_why() -> None:
    with pytest.raises(NotReadable, match=r"flowlogs-rollup-.*Data too large"):
        Cluster([], REFUSED, REFUSED).history(retry_for=0).extend({SERIES: {START: BUSY}})


QUIET = {"flows": 0, "bytes": 0, "rejected": {"flows": 0}, "nodata": 1, "skipdata": 0}
HOURS = [START, START + 3600, START + 7200]
BETWEEN = [start for start in range(START - 3600, START + 7201, 60) if start not in HOURS]


def silent(history: AlertHistory, *starts: int) -> int:
    """How often an interface is found silent that logs NODATA in the windows given, which come together."""
    past = history.extend({SERIES: {start: Past.of(QUIET) for start in starts}})[SERIES]
    return len(evaluate(DEFAULT_RULES, dict.fromkeys(starts, QUIET), past)["silent"])


def test_windows_that_come_late_together_look_back_at_those_between_them() -> None:
    assert silent(Cluster(BETWEEN).history(), *HOURS) == 0


def test_a_window_long_after_the_one_before_looks_back_at_those_between_them() -> None:
    history = Cluster(BETWEEN).history()

    assert [silent(history, start) for start in HOURS] == [0, 0, 0]


def test_windows_that_are_far_apart_each_look_back() -> None:
    day = 86_400
    late = {START: BUSY, START + day: BUSY}

    known = Cluster([START - 60, START + day - 60]).history().extend({SERIES: late})[SERIES]

    assert sorted(known) == [START - 60, START, START + day - 60, START + day]


def test_a_late_window_looks_back_although_later_ones_are_remembered() -> None:
    history = Cluster(BETWEEN).history()
    history.extend({SERIES: {START + 7260 + 60 * minute: BUSY for minute in range(60)}})

    known = history.extend({SERIES: {START + 1800: BUSY}})[SERIES]

    assert START + 1740 in known
    assert len([start for start in known if start < START + 1800]) == 60


def test_windows_that_follow_each_other_are_read_for_once() -> None:
    cluster = Cluster(BETWEEN)
    history = cluster.history()

    for minute in range(100):
        history.extend({SERIES: {START + 60 * minute: BUSY}})
        history.extend({SERIES: {START + 60 * minute: BUSY}})

    assert len(cluster.searches) == 1


def test_a_month_of_windows_with_gaps_takes_few_searches() -> None:
    cluster = Cluster()

    cluster.history().extend({SERIES: {START + 600 * number: BUSY for number in range(4320)}})

    assert len(cluster.searches) < 4320 / 10
