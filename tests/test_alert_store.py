"""Alerts on their way to an Elasticsearch that refuses, is changed by others, or holds many."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_rules import Finding, Rule
from beam_flowlogs.alert_store import AlertStore, Evaluated, MergedAlerts, Subject, found_in, gap_s
from beam_flowlogs.bulk import BulkResult, BulkWriter, ItemRejected

START = 1_764_000_000
RULE = Rule("too-much", "bytes-above", "high", {"bytes": 10})
SUBJECT = Subject("too-much", 60, "interface", "eni-1")
ABOUT = {"cloud": {"account": {"id": "1"}}}


class Cluster:
    """Keeps the alerts of bulk requests: of the first ``overtaken`` it keeps none, and says that others were faster."""

    def __init__(self, overtaken: int = 0, refuses: str = "") -> None:
        self.overtaken = overtaken
        self.refuses = refuses
        self.stored: dict[str, Any] = {}
        self.indices = self

    def refresh(self, **_: Any) -> None:
        pass

    def search(self, *, size: int, search_after: list[str] = [""], **_: Any) -> Any:  # noqa: B006
        names = [name for name in sorted(self.stored) if name > search_after[0]][:size]
        hits = [
            {"_id": name, "_seq_no": 1, "_primary_term": 1, "sort": [name], "_source": self.stored[name]}
            for name in names
        ]
        return {"hits": {"hits": hits}}

    def write(self, items: pa.Array) -> BulkResult:
        if self.overtaken:
            self.overtaken -= 1
            return BulkResult(conflicts=tuple(range(len(items))))
        if self.refuses:
            return BulkResult(
                rejected=tuple(ItemRejected(at, 400, self.refuses, "no", item.as_py()) for at, item in enumerate(items))
            )
        for item in items:
            action, document = map(orjson.loads, item.as_py().splitlines())
            ((_, target),) = action.items()
            self.stored[target["_id"]] = document
        return BulkResult(written=len(items))

    def merge(self, *minutes: int, until: int, key: str = "eni-1") -> MergedAlerts:
        findings = [Finding(START + 60 * minute, 10 + minute, 10, f"{minute}") for minute in minutes]
        found = {SUBJECT._replace(key=key): Evaluated(RULE, findings, START + 60 * until, ABOUT)}
        return self.store().merge(found)

    def store(self) -> AlertStore:
        return AlertStore(lambda: cast(Elasticsearch, self), cast(BulkWriter, self), retry_for=0)


def test_the_last_attempt_counts() -> None:
    cluster = Cluster(overtaken=19)

    assert [alert.status for alert in cluster.merge(0, until=0).current] == ["open"]


def test_alerts_that_others_change_each_time_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 alerts were changed by others"):
        Cluster(overtaken=20).merge(0, until=0)


def test_what_is_refused_is_given_back_with_its_id() -> None:
    merged = Cluster(refuses="mapper_parsing_exception").merge(0, until=0)

    ((name, item),) = merged.rejected
    assert merged.current == []
    assert orjson.loads(item.data.splitlines()[1])["flowlogs"]["alert"]["id"] == name


@pytest.mark.parametrize("until", [3, 3 + gap_s(60)])
def test_a_refused_alert_merged_once_more_is_the_same(until: int) -> None:
    cluster = Cluster()
    cluster.merge(0, 3, until=until)
    ((_, item),) = Cluster(refuses="any").merge(0, 3, until=until).rejected
    again = Cluster()

    again.store().merge(found_in(item.data))

    assert again.stored == cluster.stored


def test_however_many_alerts_are_open_each_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_flowlogs.alert_store._READ_AT_ONCE", 2)
    cluster = Cluster()
    for number in range(4):
        cluster.merge(0, until=0, key=f"eni-{number}")

    cluster.merge(until=62, key="eni-9")

    assert [alert["flowlogs"]["alert"]["status"] for alert in cluster.stored.values()] == ["closed"] * 4


def test_an_early_window_that_moves_the_cut_between_two_days_loses_none() -> None:
    minutes = range(10, 10 + 2 * 24 * 60, 10)
    cluster = Cluster()
    cluster.merge(*minutes, until=minutes[-1])

    cluster.merge(0, until=0)

    told = [alert["flowlogs"]["alert"] for alert in cluster.stored.values()]
    assert sum(alert["count"] for alert in told) == len(minutes) + 1
