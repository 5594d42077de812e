"""Findings of rules in; alerts in Elasticsearch out: one document for each rule, subject and episode.

An alert is the union of the windows in which its rule held, as a roll-up is the union of its parts: evaluating the same
roll-ups again changes nothing. Windows that follow each other within a gap are one episode. It is open until windows
come in which the rule does not hold, and closed when the gap has passed, or when no window of its key comes any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
from elasticsearch import Elasticsearch

from beam_flowlogs.alert_rules import Finding, Rule
from beam_flowlogs.bulk import BulkWriter, ItemRejected
from beam_flowlogs.elastic.patience import patiently

ALERT_INDEX = "flowlogs-alerts"

ABOUT = ("cloud", "aws", "service")
"""What a roll-up's document says of its key, and its alerts say too."""

_GAP_S = 900
_LAPSE_S = 3600
"""Seconds by which the windows of others are ahead when an open alert is closed because no window of its key comes."""

LONGEST_S = 86_400
"""Seconds after which an episode goes on as another alert: somebody is reminded, and no document grows for ever."""

_ATTEMPTS = 20
_READ_AT_ONCE = 500
"""Alerts in one answer: one of a day of minutes has some 30 KB."""
_SEVERITIES = {"low": 21, "medium": 47, "high": 73}


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


class MergedAlerts(NamedTuple):
    """The alerts that were looked at and may be news; and those that Elasticsearch will never take, by their id."""

    current: list[Current]
    rejected: list[tuple[str, ItemRejected]]


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

    def merge(self, evaluated: Mapping[Subject, Evaluated]) -> MergedAlerts:
        """Bring alerts up to date; on return each is durable or rejected."""
        current: list[Current] = []
        rejected: list[tuple[str, ItemRejected]] = []
        todo = dict(evaluated)
        for _ in range(_ATTEMPTS):
            if not todo:
                break
            changes: list[tuple[Subject, _Change]] = []
            for subject, hits in self._read(todo).items():
                if not hits and not todo[subject].findings:
                    continue  # nearly all of them
                for change in _changes(subject, todo, hits):
                    if change.hit and change.hit["_source"] == change.document:
                        current.append(Current(change.document, change.before))
                    else:
                        changes.append((subject, change))
            result = self._writer.write(pa.array([_item(change) for _, change in changes], pa.binary()))
            rejected += [(_id(changes[item.position][1].document), item) for item in result.rejected]
            lost = set(result.conflicts)
            refused = {item.position for item in result.rejected}
            current += [
                Current(change.document, change.before)
                for at, (_, change) in enumerate(changes)
                if at not in lost | refused
            ]
            again = {changes[at][0] for at in lost}
            todo = {subject: found for subject, found in todo.items() if subject in again}
        if todo:
            raise RuntimeError(f"{len(todo)} alerts were changed by others each time they were written; try again")
        return MergedAlerts(current, rejected)

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
        query = _any({"bool": {"filter": ours}}, {"bool": {"filter": lapsed}})
        found: dict[Subject, list[Mapping[str, Any]]] = {subject: [] for subject in evaluated}
        for hit in self._hits(client, query):
            found.setdefault(_subject(hit["_source"]), []).append(hit)
        return found

    def _hits(self, client: Elasticsearch, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield all alerts that a query finds, in the order of their ids, which others cannot change meanwhile."""
        search = partial(
            client.search, index=ALERT_INDEX, ignore_unavailable=True, allow_partial_search_results=False,
            size=_READ_AT_ONCE, sort=["flowlogs.alert.id"], seq_no_primary_term=True, query=query,
        )  # fmt: skip
        hits = patiently(search, self._retry_for)["hits"]["hits"]
        while hits:
            yield from hits
            hits = patiently(partial(search, search_after=hits[-1]["sort"]), self._retry_for)["hits"]["hits"]


def found_in(item: bytes) -> dict[Subject, Evaluated]:
    """Return what an alert's bulk item says was found, to merge it once more."""
    document = orjson.loads(item.partition(b"\n")[2])
    alert, subject = document["flowlogs"]["alert"], _subject(document)
    (severity,) = (name for name, number in _SEVERITIES.items() if number == document["event"]["severity"])
    message = document["message"].removeprefix(f"{subject.key}: ")
    windows = {int(start): value for start, value in alert["windows"].items()}
    findings = [Finding(start, value, alert["threshold"], message) for start, value in windows.items()]
    until = max(windows) + (gap_s(subject.window_s) + 1 if alert["status"] == "closed" else 0)
    rule = Rule(subject.rule, document["rule"]["category"], severity, {})
    return {subject: Evaluated(rule, findings, until, _about(document))}


def _subject(document: Mapping[str, Any]) -> Subject:
    alert = document["flowlogs"]["alert"]
    return Subject(alert["rule"], alert["window_s"], alert["key_type"], alert["key"])


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
    kept: set[str] = set()
    for episode in _cut(sorted(windows), gap_s(subject.window_s)):
        known = list({owner[start]["_id"]: owner[start] for start in episode if start in owner}.values())
        # An early window may have moved the cut between two days: each episode is an alert of its own all the same.
        free = [one for one in known if one["_id"] not in kept]
        replaced = free[0] if free else None
        document = _document(subject, found, {start: windows[start] for start in episode}, known, replaced)
        kept.add(_id(document))
        changes.append(_Change(document, replaced))
    # A late window may have made one episode of two: the first alert tells of both from now on.
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
    subject: Subject,
    found: Evaluated,
    windows: Mapping[int, float],
    known: Sequence[Mapping[str, Any]],
    hit: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the alert of an episode, of which the stored ones in ``known`` tell, to replace ``hit``."""
    first, last = min(windows), max(windows)
    told = [_Worst(alert["value"], alert["threshold"], text) for alert, text in map(_told, known)]
    told += [
        _Worst(finding.value, finding.threshold, f"{subject.key}: {finding.message}")
        for finding in found.findings
        if finding.start in windows
    ]
    worst = max(told, key=lambda one: one.value)  # the first of equal ones: what was said stays said
    stored = _told(hit)[0] if hit else {}
    # One that is closed stays so unless a window joins it: an older window than the last seen proves nothing.
    as_it_was = stored.get("status") == "closed" and len(stored["windows"]) == len(windows)
    over = as_it_was or found.until - last > gap_s(subject.window_s)
    alert = {
        "id": hit["_id"] if hit else _identity(subject, first),
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
            "severity": _SEVERITIES[found.rule.severity],
            "start": _iso(first), "end": _iso(last + subject.window_s),
        },
        "rule": {"name": subject.rule, "category": found.rule.kind},
        **(_about(known[0]["_source"]) if known else found.about),
        "flowlogs": {"alert": alert},
    }  # fmt: skip


def _told(hit: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    return hit["_source"]["flowlogs"]["alert"], hit["_source"]["message"]


def _about(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ABOUT if name in document}


def _id(document: Mapping[str, Any]) -> str:
    return str(document["flowlogs"]["alert"]["id"])


def _identity(subject: Subject, start: int) -> str:
    return blake2b(orjson.dumps([*subject, start]), digest_size=12).hexdigest()


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def _item(change: _Change) -> bytes:
    document, hit = change
    target: dict[str, Any] = {"_index": ALERT_INDEX, "_id": _id(document)}
    if hit:
        target |= {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
    return orjson.dumps({"index" if hit else "create": target}) + b"\n" + orjson.dumps(document) + b"\n"
