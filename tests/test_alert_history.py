"""What is read of the past, from an Elasticsearch that answers as told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_history import AlertHistory, Series
from beam_flowlogs.alert_rules import Past
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
