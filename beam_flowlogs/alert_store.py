"""Findings of rules in; alerts in Elasticsearch out: one document for each rule, subject and episode.

An alert is the union of the windows in which its rule held, as a roll-up is the union of its parts: evaluating the same
roll-ups again changes nothing. Windows that follow each other within a gap are one episode. It is open until windows
come in which the rule does not hold, and closed when the gap has passed, or when no window of its key comes any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_rules import Finding, Rule
from beam_flowlogs.bulk import BulkWriter
from beam_flowlogs.elastic.patience import patiently

_logger = logging.getLogger(__name__)

ALERT_INDEX = "flowlogs-alerts"

ABOUT = ("cloud", "aws")
"""What a roll-up's document says of its key, and its alerts say too."""

_GAP_S = 900
_LAPSE_S = 3600
"""Seconds by which the windows of others are ahead when an open alert is closed because no window of its key comes."""

LONGEST_S = 86_400
"""Seconds after which an episode goes on as another alert: somebody is reminded, and no document grows for ever."""

_ATTEMPTS = 20


def gap_s(window_s: int) -> int:
    """Return the seconds without a finding after which an episode is over: AWS may log once in ten minutes."""
    return max(_GAP_S, 2 * window_s)


class Subject(NamedTuple):
    """What an alert is about: a rule and the key of the roll-ups that it held for."""

    rule: str
    window_s: int
    key_type: str
    key: str


class Evaluated(NamedTuple):
    """A rule's findings for a key, the start of the newest window looked at, and what the documents say of the key."""

    rule: Rule
    findings: Sequence[Finding]
    until: int
    about: Mapping[str, Any]


class Current(NamedTuple):
    """An alert as it stands in Elasticsearch, and the status that it had before; "" if it is new."""

    document: Mapping[str, Any]
    before: str

    @property
    def status(self) -> str:
        """``open`` or ``closed``."""
        return str(self.document["flowlogs"]["alert"]["status"])

    @property
    def is_untold(self) -> bool:
        """Whether nobody was told of its status yet."""
        return self.document["flowlogs"]["alert"].get("told") != self.status


class _Change(NamedTuple):
    document: dict[str, Any]
    hit: Mapping[str, Any] | None  # the stored one that it replaces

    @property
    def before(self) -> str:
        return self.hit["_source"]["flowlogs"]["alert"]["status"] if self.hit else ""


class AlertStore:
    """The alerts of one cluster."""

    def __init__(
        self, connect: Callable[[], Elasticsearch], writer: BulkWriter, *, retry_for: float | None = None
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._retry_for = retry_for

    def merge(self, evaluated: Mapping[Subject, Evaluated]) -> list[Current]:
        """Bring alerts up to date; on return all are durable. Return those that were looked at and may be news."""
        current: list[Current] = []
        todo = dict(evaluated)
        for _ in range(_ATTEMPTS):
            if not todo:
                return current
            changes: list[tuple[Subject, _Change]] = []
            for subject, hits in self._read(todo).items():
                for change in _changes(subject, todo, hits):
                    if change.hit and change.hit["_source"] == change.document:
                        current.append(Current(change.document, change.before))
                    else:
                        changes.append((subject, change))
            result = self._writer.write(pa.array([_item(change) for _, change in changes], pa.binary()))
            for item in result.rejected:
                _logger.error("an alert was refused by Elasticsearch with %d: %s", item.status, item.detail)
            lost = set(result.conflicts)
            refused = {item.position for item in result.rejected}
            current += [
                Current(change.document, change.before)
                for at, (_, change) in enumerate(changes)
                if at not in lost | refused
            ]
            again = {changes[at][0] for at in lost}
            todo = {subject: found for subject, found in todo.items() if subject in again}
        raise RuntimeError(f"{len(todo)} alerts were changed by others each time they were written; try again")

    def mark_told(self, alerts: Iterable[Mapping[str, Any]]) -> None:
        """Remember that somebody was told of the status of alerts."""
        items = []
        for document in alerts:
            alert = document["flowlogs"]["alert"]
            target = {"update": {"_index": ALERT_INDEX, "_id": alert["id"], "retry_on_conflict": 5}}
            told = {"doc": {"flowlogs": {"alert": {"told": alert["status"]}}}}
            items.append(orjson.dumps(target) + b"\n" + orjson.dumps(told) + b"\n")
        if items:
            self._writer.write(pa.array(items, pa.binary()))

    def _read(self, evaluated: Mapping[Subject, Evaluated]) -> dict[Subject, list[Mapping[str, Any]]]:
        """Return for each subject the stored alerts that it could continue or close; and those that lapsed."""
        client = self._connect()
        patiently(partial(client.indices.refresh, index=ALERT_INDEX, ignore_unavailable=True), self._retry_for)
        oldest = min(_oldest(subject, found) for subject, found in evaluated.items())
        ours = [
            {"terms": {"flowlogs.alert.key": sorted({subject.key for subject in evaluated})}},
            _any({"term": {"flowlogs.alert.status": "open"}}, {"range": {"event.end": {"gte": oldest * 1000}}}),
        ]
        lapsed = [
            {"term": {"flowlogs.alert.status": "open"}},
            {"range": {"event.end": {"lt": _lapse(evaluated) * 1000}}},
        ]
        search = partial(
            client.search, index=ALERT_INDEX, ignore_unavailable=True, size=10_000, seq_no_primary_term=True,
            query=_any({"bool": {"filter": ours}}, {"bool": {"filter": lapsed}}),
        )  # fmt: skip
        found: dict[Subject, list[Mapping[str, Any]]] = {subject: [] for subject in evaluated}
        for hit in patiently(search, self._retry_for)["hits"]["hits"]:
            alert = hit["_source"]["flowlogs"]["alert"]
            subject = Subject(alert["rule"], alert["window_s"], alert["key_type"], alert["key"])
            found.setdefault(subject, []).append(hit)
        return found


def _any(*queries: Mapping[str, Any]) -> dict[str, Any]:
    return {"bool": {"should": queries, "minimum_should_match": 1}}


def _oldest(subject: Subject, found: Evaluated) -> int:
    return min([finding.start for finding in found.findings] or [found.until]) - gap_s(subject.window_s)


def _lapse(evaluated: Mapping[Subject, Evaluated]) -> int:
    """Return the time in Unix seconds before which an alert must have ended to be closed for want of windows.

    Never ahead of now: one interface whose clock is fast says nothing of the others.
    """
    return min(max(found.until for found in evaluated.values()), int(time.time())) - _LAPSE_S


def _changes(
    subject: Subject, evaluated: Mapping[Subject, Evaluated], stored: Sequence[Mapping[str, Any]]
) -> list[_Change]:
    """Return the subject's alerts as they should be, each with the stored one that it replaces."""
    found = evaluated.get(subject)
    if found is None:
        return [_Change(_closed(hit["_source"]), hit) for hit in stored if _end(hit["_source"]) < _lapse(evaluated)]
    windows = {finding.start: finding.value for finding in found.findings}
    owner: dict[int, Mapping[str, Any]] = {}
    for hit in stored:
        for text, value in hit["_source"]["flowlogs"]["alert"]["windows"].items():
            start = int(text)
            windows[start] = max(value, windows.get(start, value))
            owner[start] = hit
    changes: list[_Change] = []
    for episode in _cut(sorted(windows), gap_s(subject.window_s)):
        known = list({owner[start]["_id"]: owner[start] for start in episode if start in owner}.values())
        document = _document(subject, found, {start: windows[start] for start in episode}, known)
        changes.append(_Change(document, known[0] if known else None))
    # A late window may have made one episode of two: the first alert tells of both from now on.
    kept = {change.hit["_id"] for change in changes if change.hit}
    return changes + [_Change(_closed(hit["_source"]), hit) for hit in stored if hit["_id"] not in kept]


def _end(document: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(document["event"]["end"].replace("Z", "+00:00")).timestamp()


def _closed(document: Mapping[str, Any]) -> dict[str, Any]:
    alert = document["flowlogs"]["alert"] | {"status": "closed"}
    return {**document, "flowlogs": {"alert": alert}}


def _cut(starts: Sequence[int], gap_s: int) -> list[list[int]]:
    episodes: list[list[int]] = []
    for start in starts:
        if episodes and start - episodes[-1][-1] <= gap_s and start - episodes[-1][0] < LONGEST_S:
            episodes[-1].append(start)
        else:
            episodes.append([start])
    return episodes


class _Worst(NamedTuple):
    value: float
    threshold: float
    message: str


def _document(
    subject: Subject, found: Evaluated, windows: Mapping[int, float], known: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    first, last = min(windows), max(windows)
    told = [_Worst(alert["value"], alert["threshold"], text) for alert, text in map(_told, known)]
    told += [
        _Worst(finding.value, finding.threshold, f"{subject.key}: {finding.message}")
        for finding in found.findings
        if finding.start in windows
    ]
    worst = max(told, key=lambda one: one.value)  # the first of equal ones: what was said stays said
    stored = _told(known[0])[0] if known else {}
    # One that is closed stays so unless a window joins it: an older window than the last seen proves nothing.
    as_it_was = stored.get("status") == "closed" and len(stored["windows"]) == len(windows)
    over = as_it_was or found.until - last > gap_s(subject.window_s)
    alert = {
        "id": known[0]["_id"] if known else _identity(subject, first),
        "rule": subject.rule,
        "key_type": subject.key_type,
        "key": subject.key,
        "window_s": subject.window_s,
        "status": "closed" if over else "open",
        "value": worst.value,
        "threshold": worst.threshold,
        "count": len(windows),
        "windows": {str(start): value for start, value in windows.items()},
    }
    if "told" in stored:
        alert["told"] = stored["told"]
    return {
        "@timestamp": _iso(first),
        "message": worst.message,
        "event": {
            "kind": "alert", "category": ["network"], "type": ["info"], "module": "flowlogs", "action": found.rule.kind,
            "severity": {"low": 21, "medium": 47, "high": 73}[found.rule.severity],
            "start": _iso(first), "end": _iso(last + subject.window_s),
        },
        "rule": {"name": subject.rule, "category": found.rule.kind},
        **(_about(known[0]) if known else found.about),
        "flowlogs": {"alert": alert},
    }  # fmt: skip


def _told(hit: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    return hit["_source"]["flowlogs"]["alert"], hit["_source"]["message"]


def _about(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hit["_source"][name] for name in ABOUT if name in hit["_source"]}


def _identity(subject: Subject, start: int) -> str:
    return blake2b(orjson.dumps([*subject, start]), digest_size=12).hexdigest()


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def _item(change: _Change) -> bytes:
    document, hit = change
    target: dict[str, Any] = {"_index": ALERT_INDEX, "_id": document["flowlogs"]["alert"]["id"]}
    if hit:
        target |= {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
    return orjson.dumps({"index" if hit else "create": target}) + b"\n" + orjson.dumps(document) + b"\n"
