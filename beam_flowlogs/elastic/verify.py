"""Proof by recount: the sums over raw documents, and the roll-ups beside them, interface by interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from elasticsearch import Elasticsearch

from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.rollup import COUNTERS, KEY_COLUMNS, ROLLUP_INDEX_PREFIX, RollUpKey, parse_window
from beam_flowlogs.times import TimeRange

_BOTH = f"{RAW_INDEX_PREFIX}*,{ROLLUP_INDEX_PREFIX}*"
_PAGE = 2000
WINDOW = "flowlogs.rollup.window"
WITH_TRAFFIC = {"bool": {"must_not": [{"terms": {"aws.vpcflow.log_status": ["NODATA", "SKIPDATA"]}}]}}
"""The raw documents that count as flows: those without a status too."""

_PROTOCOLS = {"tcp": ["6"], "udp": ["17"], "icmp": ["1", "58"]}
_FLAGS = {"tcp.begun": (["syn"], ["ack"]), "tcp.answered": (["syn", "ack"], []), "tcp.reset": (["rst"], [])}

_DAY_MS = 86_400_000

Counts = Mapping[str, int]


class Difference(NamedTuple):
    """A roll-up that is not the sum of its raw documents: the counters that differ, as (recounted, rolled up).

    ``rolled_up`` and ``has_raw`` tell on which sides there is anything of this key and window.
    """

    key: RollUpKey
    counters: dict[str, tuple[int, int]]
    rolled_up: bool = True
    has_raw: bool = True


class Proof(NamedTuple):
    """What was compared: roll-ups, raw documents, and ``compared`` keys and windows that are on either side.

    ``differences`` are all that are not equal; the properties tell their kinds.
    """

    window_s: int
    rollups: int
    documents: int
    compared: int
    differences: list[Difference]

    @property
    def equal(self) -> int:
        """Roll-ups that are the sums of their raw documents."""
        return self.compared - len(self.differences)

    @property
    def missing(self) -> int:
        """Keys and windows of raw documents that have no roll-up."""
        return sum(not found.rolled_up for found in self.differences)

    @property
    def unfounded(self) -> int:
        """Roll-ups without any raw document."""
        return sum(not found.has_raw for found in self.differences)

    @property
    def different(self) -> int:
        """Roll-ups whose raw documents sum up to something else."""
        return len(self.differences) - self.missing - self.unfounded


class Range(NamedTuple):
    """Milliseconds since 1970, from ``begin`` to before ``end``; None: no bound."""

    begin: int | None = None
    end: int | None = None

    @classmethod
    def of(cls, times: TimeRange) -> Range:
        """Return the range between two times."""
        return cls(*(None if time is None else int(time.timestamp() * 1000) for time in (times.since, times.until)))

    def whole_windows(self, window_s: int) -> dict[str, Any] | None:
        """Return a query for the windows that lie in the range from beginning to end; None: for all.

        Half a window's raw documents cannot equal its roll-up.
        """
        window_ms = window_s * 1000
        bounds = {}
        if self.begin is not None:
            bounds["gte"] = -(-self.begin // window_ms) * window_ms
        if self.end is not None:
            bounds["lt"] = self.end // window_ms * window_ms
        return {"range": {"@timestamp": {**bounds, "format": "epoch_millis"}}} if bounds else None


def window_lengths(client: Elasticsearch) -> list[int]:
    """Return the lengths of the stored roll-ups' windows in seconds, the shortest first."""
    answer = _search(client, f"{ROLLUP_INDEX_PREFIX}*", {"length": {"terms": {"field": WINDOW, "size": 100}}})
    buckets = answer.get("aggregations", {}).get("length", {}).get("buckets", ())
    return sorted(parse_window(bucket["key"]) for bucket in buckets)


def verify(client: Elasticsearch, window_s: int, query: Mapping[str, Any] | None = None) -> Proof:
    """Recount raw documents by interface and window and compare them with the roll-ups, counter by counter.

    ``query`` restricts both sides, and should ask for whole windows of ``@timestamp``. A shard that does not answer
    is an error: what it holds would look missing. Memory: the keys and windows of one day.
    """
    client.indices.refresh(index=_BOTH, ignore_unavailable=True)
    by_day = {"date_histogram": {"field": "@timestamp", "fixed_interval": "1d", "min_doc_count": 1}}
    answer = _search(client, _BOTH, {"days": by_day}, query)
    proofs = [
        _verify_day(client, window_s, day["key"], query)
        for day in answer.get("aggregations", {}).get("days", {}).get("buckets", ())
    ]
    _, rollup_counts, documents, compared, differences = zip(Proof(window_s, 0, 0, 0, []), *proofs)
    return Proof(window_s, sum(rollup_counts), sum(documents), sum(compared), list(chain(*differences)))


def _verify_day(client: Elasticsearch, window_s: int, day_ms: int, query: Mapping[str, Any] | None) -> Proof:
    day = Range(day_ms, day_ms + _DAY_MS).whole_windows(window_s)  # a day is of whole windows
    query = {"bool": {"filter": [day, *([query] if query else [])]}}
    recounted: dict[RollUpKey, dict[str, int]] = {}
    documents = 0
    for key, counts, records in recount(client, window_s, query):
        documents += records
        known = recounted.setdefault(key, dict.fromkeys(COUNTERS, 0))
        for name, count in counts.items():
            known[name] += count
    rolled_up: dict[RollUpKey, dict[str, int]] = {}
    for key, stored in rollups(client, window_s, query):  # several flow logs may share the key of records without one
        sums = rolled_up.setdefault(key, dict.fromkeys(COUNTERS, 0))
        for name, count in stored.items():
            sums[name] += count
    differences = []
    keys = sorted(recounted.keys() | rolled_up.keys())
    for key in keys:
        mine, theirs = recounted.get(key, {}), rolled_up.get(key, {})
        unlike = {name: (mine.get(name, 0), theirs.get(name, 0)) for name in COUNTERS}
        unlike = {name: pair for name, pair in unlike.items() if pair[0] != pair[1]}
        if unlike or key not in rolled_up or key not in recounted:
            differences.append(Difference(key, unlike, key in rolled_up, key in recounted))
    return Proof(window_s, len(rolled_up), documents, len(keys), differences)


def recount(
    client: Elasticsearch, window_s: int, query: Mapping[str, Any] | None = None
) -> Iterator[tuple[RollUpKey, Counts, int]]:
    """Yield the sums over raw documents by key and window, and the number of the documents."""
    sums = {name: {"sum": {"field": f"network.{name}"}} for name in ("bytes", "packets")}
    named = [number for numbers in _PROTOCOLS.values() for number in numbers]
    classes = {
        "ok": WITH_TRAFFIC,
        "accepted": {"term": {"event.action": "ACCEPT"}},
        "rejected": {"term": {"event.action": "REJECT"}},
        "ingress": {"term": {"network.direction": "ingress"}},
        "egress": {"term": {"network.direction": "egress"}},
        **{f"protocol.{name}": {"terms": {"network.iana_number": numbers}} for name, numbers in _PROTOCOLS.items()},
        "protocol.other": {"bool": {"must_not": [{"terms": {"network.iana_number": named}}]}},
    }
    aggregations: dict[str, Any] = {
        name: {"filter": {"bool": {"filter": [condition, classes["ok"]]}}, "aggs": sums}
        for name, condition in classes.items()
    }
    for name, (there, absent) in _FLAGS.items():
        flags = [{"term": {"aws.vpcflow.tcp_flags_array": flag}} for flag in there]
        without = [{"term": {"aws.vpcflow.tcp_flags_array": flag}} for flag in absent]
        aggregations[name] = {"filter": {"bool": {"filter": [*flags, classes["ok"]], "must_not": without}}}
    for status in ("nodata", "skipdata"):
        aggregations[status] = {"filter": {"term": {"aws.vpcflow.log_status": status.upper()}}}
    # The interface last: pages after the first come back empty when a field that a logsdb index is sorted by leads, as
    # seen with Elasticsearch 9.4.
    sources: list[dict[str, Any]] = [
        {name: {"terms": {"field": f"aws.vpcflow.{name}", "missing_bucket": True}}}
        for name in reversed(list(KEY_COLUMNS.values()))
    ]
    sources.append({"window": {"date_histogram": {"field": "@timestamp", "fixed_interval": f"{window_s}s"}}})
    composite: dict[str, Any] = {"size": _PAGE, "sources": sources}
    while True:
        answer = _search(
            client, f"{RAW_INDEX_PREFIX}*", {"keys": {"composite": composite, "aggs": aggregations}}, query
        )
        found = answer.get("aggregations", {}).get("keys", {})
        for bucket in found.get("buckets", ()):
            yield _key(bucket["key"], window_s), _counts(bucket), bucket["doc_count"]
        if "after_key" not in found:
            return
        composite["after"] = found["after_key"]


def _key(named: Mapping[str, Any], window_s: int) -> RollUpKey:
    for key_type, column in KEY_COLUMNS.items():
        if named[column] is not None:
            return RollUpKey(window_s, named["window"] // 1000, key_type, named[column])
    return RollUpKey(window_s, named["window"] // 1000, "flow_log", "")


def _counts(bucket: Mapping[str, Any]) -> dict[str, int]:
    counts = {}
    for counter in COUNTERS:
        group, _, name = counter.rpartition(".")
        if counter in bucket:
            counts[counter] = bucket[counter]["doc_count"]
        elif name == "flows":
            counts[counter] = bucket[group or "ok"]["doc_count"]
        else:
            counts[counter] = int(bucket[group or "ok"][name]["value"])
    return counts


def rollups(
    client: Elasticsearch, window_s: int, query: Mapping[str, Any] | None = None
) -> Iterator[tuple[RollUpKey, Counts]]:
    """Yield the counters of the stored roll-ups of a window's length."""
    length = {"term": {WINDOW: f"{window_s}s"}}
    after: list[Any] | None = None
    while True:
        answer = client.search(
            index=f"{ROLLUP_INDEX_PREFIX}*",
            ignore_unavailable=True,
            allow_partial_search_results=False,
            size=_PAGE,
            query={"bool": {"filter": [length, *([query] if query else [])]}},
            source_excludes=["flowlogs.rollup.parts", "flowlogs.rollup.top"],
            # Of one window's length, these tell every roll-up from every other: else a page's end could lose some.
            sort=["@timestamp", "flowlogs.rollup.key", "flowlogs.rollup.key_type"],
            search_after=after,
        )
        hits = answer["hits"]["hits"]
        for hit in hits:
            rollup = hit["_source"]["flowlogs"]["rollup"]
            start = int(datetime.fromisoformat(hit["_source"]["@timestamp"].replace("Z", "+00:00")).timestamp())
            # A flow log's own id is not in its raw documents: records without a key are compared together.
            key = "" if rollup["key_type"] == "flow_log" else rollup["key"]
            yield RollUpKey(window_s, start, rollup["key_type"], key), {name: _at(rollup, name) for name in COUNTERS}
        if len(hits) < _PAGE:
            return
        after = hits[-1]["sort"]


def _search(client: Elasticsearch, index: str, aggregations: dict[str, Any], query: Any = None) -> Any:
    return client.search(
        index=index,
        ignore_unavailable=True,
        allow_partial_search_results=False,
        size=0,
        query=query,
        aggs=aggregations,
    )


def _at(rollup: Mapping[str, Any], path: str) -> int:
    value: Any = rollup
    for name in path.split("."):
        value = value.get(name, {})
    return int(value or 0)
