"""What rules look back at: the roll-ups before, remembered in this process and read from Elasticsearch when it is new.

No runner's state is needed for that: the roll-ups are in Elasticsearch already, so a job that was just started, or that
drains a queue every few minutes, looks back as far as one that runs for months.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_rules import HELD
from beam_flowlogs.bulk_request import describe
from beam_flowlogs.elastic.patience import NotReadable, patiently
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

_LOOKED_BACK = 4 * HELD
"""Windows back from one that are searched: an interface logs nothing in some, or once in ten minutes."""
_HELD_SERIES = 10_000
_TRUSTED_S = 600
"""Seconds after which what is remembered is read anew: another worker may have had the key meanwhile."""
_SEARCHES_AT_ONCE = 100
_READ = ("flows", "bytes", "rejected.flows", "nodata", "top.rejected_ports.port", "top.rejected_sources.address")


class Series(NamedTuple):
    """Roll-ups that follow each other: windows of one length, in seconds, of one key."""

    window_s: int
    key_type: str
    key: str


class _Remembered(NamedTuple):
    read_at: float
    data: bytes  # packed: thousands of interfaces have sixty windows each


class _Span(NamedTuple):
    """A stretch of a series: from ``since`` to ``before``, and of its windows the newest ``most``."""

    name: Series
    since: int
    before: int
    most: int


class AlertHistory:
    """The recent past of each series. Memory is bounded by the number of series that are remembered."""

    def __init__(self, connect: Callable[[], Elasticsearch], *, retry_for: float | None = None) -> None:
        self._connect = connect
        self._retry_for = retry_for
        self._remembered: OrderedDict[Series, _Remembered] = OrderedDict()

    def extend(self, new: Mapping[Series, Mapping[int, Past]]) -> dict[Series, dict[int, Past]]:
        """Remember new windows of series, by start; return all that is known of each, these included."""
        now = time.monotonic()
        known: dict[Series, dict[int, Past]] = {}
        read_at: dict[Series, float] = {}
        spans: list[_Span] = []
        for name, windows in new.items():
            held = self._remembered.pop(name, None)
            if held is None or now - held.read_at >= _TRUSTED_S:
                held = _Remembered(now, b"[]")
            read_at[name] = held.read_at
            known[name] = {start: Past(*rest) for start, *rest in orjson.loads(held.data)}
            spans += _unknown(name, known[name], windows)
        for name, found in self._read(spans):
            known[name] = found | known[name]
        for name, windows in new.items():
            known[name] |= windows
            kept = sorted(known[name])[-HELD:]
            packed = orjson.dumps([(start, *known[name][start]) for start in kept])
            self._remembered[name] = _Remembered(read_at[name], packed)
        while len(self._remembered) > _HELD_SERIES:
            self._remembered.popitem(last=False)
        return known

    def _read(self, spans: Sequence[_Span]) -> Iterator[tuple[Series, dict[int, Past]]]:
        """Yield the newest roll-ups of each span, as Elasticsearch has them."""
        if not spans:
            return
        pattern = f"{ROLLUP_INDEX_PREFIX}*"
        client = self._connect()
        patiently(partial(client.indices.refresh, index=pattern), self._retry_for)
        for begin in range(0, len(spans), _SEARCHES_AT_ONCE):
            some = spans[begin : begin + _SEARCHES_AT_ONCE]
            searches = [line for span in some for line in ({}, _search(span))]
            answers = patiently(partial(_msearch, client, pattern, searches), self._retry_for)
            for span, hits in zip(some, answers):
                yield span.name, dict(map(_past, hits))


def _unknown(name: Series, remembered: Collection[int], new: Collection[int]) -> Iterator[_Span]:
    """Yield what new windows look back at and is not known: each that does not follow a known one looks back itself."""
    starts = sorted({*remembered, *new})
    is_full = len(remembered) >= HELD
    alone = [
        start
        for at, start in enumerate(starts)
        if start in new
        and (
            (start not in remembered and (at == 0 or starts[at - 1] != start - name.window_s))
            # Older ones were forgotten: a few are not what is usual.
            or (is_full and at < HELD // 2)
        )
    ]
    longest = _LOOKED_BACK * name.window_s
    at = 0
    while at < len(alone):
        first = alone[at]
        at = bisect_right(alone, first + longest)
        last = alone[at - 1]
        yield _Span(name, first - longest, first, HELD)
        if last > first:
            yield _Span(name, first, last, _LOOKED_BACK)  # all that there can be


def _msearch(client: Elasticsearch, pattern: str, searches: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the hits of each search. Raises NotReadable if one was not answered, or not by all shards."""
    responses = client.msearch(index=pattern, searches=searches)["responses"]
    for response in responses:
        failures = response.get("_shards", {}).get("failures") or [{"reason": response.get("error")}]
        error = failures[0]["reason"]
        # No hits would mean no past, and what is unusual against no past is an alert.
        if error:
            raise NotReadable(describe(0, error["type"], f"{pattern}: {error.get('reason', '')}"))
    return [response["hits"]["hits"] for response in responses]


def _search(span: _Span) -> dict[str, Any]:
    name = span.name
    wanted: Sequence[Mapping[str, Any]] = [
        {"term": {"flowlogs.rollup.key": name.key}},
        {"term": {"flowlogs.rollup.key_type": name.key_type}},
        {"term": {"flowlogs.rollup.window": f"{name.window_s}s"}},
        {"range": {"@timestamp": {"gte": span.since * 1000, "lt": span.before * 1000, "format": "epoch_millis"}}},
    ]
    return {
        "size": span.most,
        "sort": [{"@timestamp": "desc"}],
        "query": {"bool": {"filter": wanted}},
        "_source": [f"flowlogs.rollup.{field}" for field in _READ],
        "track_total_hits": False,
    }


def _past(hit: Mapping[str, Any]) -> tuple[int, Past]:
    return hit["sort"][0] // 1000, Past.of(hit["_source"]["flowlogs"]["rollup"])
