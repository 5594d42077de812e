"""Per-interface roll-ups: rows in, one small part for each interface and window out; parts in, a document out.

A roll-up is the union, by object, of the parts that objects contributed. Merging a part that is there replaces it by
itself, so any order, any grouping and any number of times gives the same document (docs/architecture.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from beam_flowlogs.rollup_details import combined

ROLLUP_INDEX_PREFIX = "flowlogs-rollup-"

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DAY_S = 86_400
_LONGEST_ID = 512
"""Bytes of UTF-8: what Elasticsearch takes."""

KEY_COLUMNS: Mapping[str, str] = {
    "interface": "interface_id",
    "resource": "resource_id",
    "tgw_attachment": "tgw_attachment_id",
}
"""What a record is counted under, by the first of these columns that it has a value in; else its flow log."""

DIMENSIONS: Mapping[str, str] = {
    "account_id": "cloud.account.id",
    "region": "cloud.region",
    "vpc_id": "aws.vpcflow.vpc_id",
    "subnet_id": "aws.vpcflow.subnet_id",
    "instance_id": "cloud.instance.id",
}
"""What is said of a roll-up's key, by column, and where its document says it."""

_SUMS = ("flows", "bytes", "packets")
_CLASSES = ("accepted", "rejected", "ingress", "egress")
_PROTOCOLS = ("tcp", "udp", "icmp", "other")
_HANDSHAKE = ("begun", "answered", "reset")
_SUMS_AT = (0, 3, 6, 9, 12, 17, 20, 23, 26)
"""Where the sums begin among the counters: of all, of each class, of each protocol."""

COUNTERS: tuple[str, ...] = (
    *_SUMS,
    *(f"{group}.{name}" for group in _CLASSES for name in _SUMS),
    "nodata",
    "skipdata",
    *(f"protocol.{protocol}.{name}" for protocol in _PROTOCOLS for name in _SUMS),
    *(f"tcp.{name}" for name in _HANDSHAKE),
)
"""The order of a part's counters; new ones go to the end, since parts are stored for as long as their roll-ups."""

PARTS_VERSION = 1
"""Of the form of parts, under way and stored. A counter more at the end needs no other: it is 0 in earlier parts."""


def parse_duration(text: str) -> int:
    """Return the seconds of a length of time such as ``60s``, ``5m`` or ``2h``; 0 if it is none."""
    match = re.fullmatch(r"(\d{1,6})([smh])", text)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def parse_window(text: str) -> int:
    """Return the seconds of a window such as ``60s``, ``5m`` or ``1h``.

    Raises ValueError if it does not divide a day.
    """
    seconds = parse_duration(text)
    if not seconds or _DAY_S % seconds:
        raise ValueError(f"{text!r} is no roll-up window: give a length that divides a day, such as 60s, 5m or 1h")
    return seconds


def parse_windows(text: str) -> tuple[int, ...]:
    """Return the seconds of one or several windows such as ``60s,1h``. Raises ValueError if they do not nest."""
    windows = tuple(parse_window(one.strip()) for one in text.split(","))
    check_windows(windows)
    return windows


def check_windows(windows: Sequence[int]) -> None:
    """Raise ValueError unless windows, in seconds, are given shortest first and each is a multiple of the first."""
    if not windows or any(_DAY_S % seconds or seconds % windows[0] for seconds in windows):
        raise ValueError(
            f"roll-up windows of {', '.join(map(str, windows)) or 'no'} seconds: give lengths that divide a day, the "
            "shortest first, each a multiple of it, such as 60s,1h"
        )
    if list(windows) != sorted(set(windows)):
        raise ValueError("roll-up windows are given out of order or twice: put the shortest first, each once")


class RollUpKey(NamedTuple):
    """What one roll-up document is about: a window (seconds long, from ``start`` in Unix seconds) of one key."""

    window_s: int
    start: int
    key_type: str
    key: str

    @property
    def id(self) -> str:
        """The document's id, that no other roll-up has; a hash stands for a key too long for Elasticsearch."""
        about = f"{self.window_s}s-{self.start}-{self.key_type}"
        known = f"{about}-{self.key}"
        if len(known.encode()) <= _LONGEST_ID:
            return known
        return f"{about}~{hashlib.blake2b(self.key.encode(), digest_size=16).hexdigest()}"

    @property
    def index_name(self) -> str:
        """The index of the window's month."""
        return _index_of_day(self.start // _DAY_S)


class Part(NamedTuple):
    """What one object contributes to a roll-up. ``counters`` are in the order of COUNTERS, times in Unix ms.

    ``details`` are those of rollup_details.py; empty where they were not asked for.
    """

    object_id: str
    counters: Sequence[int]
    first_seen: int
    last_seen: int
    dimensions: Mapping[str, str]
    details: Sequence[Any] = ()


def to_json(value: Any) -> bytes:
    """Return a value as JSON; a sum of more than 64 bits too, which Elasticsearch then refuses: a reject of its own."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


class NewerRollUpError(ValueError):
    """A stored roll-up is of a later version of this package, and would lose what this one does not know."""


def merge(
    key: RollUpKey, stored: Mapping[str, Any] | None, parts: Sequence[Part], pane: str = ""
) -> dict[str, Any] | None:
    """Return the roll-up document that holds the stored one's parts and these; None where that changes nothing.

    ``stored`` is the ``_source`` of the document as read, None when there is none yet. ``pane`` says when these parts
    came (``early``, ``on_time``, ``late``), as far as somebody knows. Raises NewerRollUpError.
    """
    if stored is None and len(parts) == 1:  # most of them: an interface's minute lies in one object
        (part,) = parts
        return _document(key, {part.object_id: _kept(part)}, part.dimensions, pane)
    rollup = stored["flowlogs"]["rollup"] if stored else {}
    if rollup.get("version", PARTS_VERSION) > PARTS_VERSION:
        raise NewerRollUpError(
            f"the stored roll-up is of version {rollup['version']}, and this release knows {PARTS_VERSION}: "
            "run the newer release, then replay"
        )
    known: dict[str, list[Any]] = dict(rollup.get("parts", {}))
    dimensions = {name: (stored and _at(stored, path)) or "" for name, path in DIMENSIONS.items()}
    changed = False
    for part in parts:
        there = known.get(part.object_id)
        if there and _records(there[0]) > _records(part.counters):
            continue  # of an attempt that saw less of the object: what the fuller one counted can still be found
        kept = _kept(part)
        changed |= there != kept
        known[part.object_id] = kept
        for name, value in part.dimensions.items():
            if value > dimensions[name]:
                dimensions[name] = value
                changed = True
    return _document(key, dict(sorted(known.items())), dimensions, pane) if changed else None


def _kept(part: Part) -> list[Any]:
    """Return a part as a document holds it, below its object's id."""
    kept = [list(part.counters), part.first_seen, part.last_seen]
    return [*kept, part.details] if part.details else kept


def _records(counters: Sequence[int]) -> int:
    """Return how many records a part counts."""
    return counters[0] + counters[15] + counters[16]


def parts_of(document: Mapping[str, Any]) -> tuple[RollUpKey, list[Part]]:
    """Return the key of a roll-up document, and the parts that it was merged from."""
    rollup = document["flowlogs"]["rollup"]
    start = datetime.fromisoformat(document["@timestamp"].replace("Z", "+00:00"))
    key = RollUpKey(parse_window(rollup["window"]), int(start.timestamp()), rollup["key_type"], rollup["key"])
    known = {name: _at(document, path) for name, path in DIMENSIONS.items()}
    dimensions = {name: value for name, value in known.items() if value}
    return key, [
        Part(object_id, counters, first_seen, last_seen, dimensions, *details)
        for object_id, (counters, first_seen, last_seen, *details) in rollup["parts"].items()
    ]


def _document(
    key: RollUpKey, parts: Mapping[str, list[Any]], dimensions: Mapping[str, str], pane: str
) -> dict[str, Any]:
    found = list(parts.values())
    totals = _totals([part[0] for part in found])
    # Written out, since zipped with _SUMS it is a third of what a roll-up costs.
    sums = [
        {"flows": flows, "bytes": octets, "packets": packets}
        for flows, octets, packets in [totals[at : at + 3] for at in _SUMS_AT]
    ]
    nodata, skipdata = totals[15:17]
    rollup = {
        "version": PARTS_VERSION,
        "window": f"{key.window_s}s",
        "key_type": key.key_type,
        "key": key.key,
        **sums[0],
        **dict(zip(_CLASSES, sums[1:5])),
        "nodata": nodata,
        "skipdata": skipdata,
        "complete": skipdata == 0,
        "protocol": dict(zip(_PROTOCOLS, sums[5:])),
        "tcp": dict(zip(_HANDSHAKE, totals[29:32])),
        "objects": len(found),
        "first_seen": _iso(min([part[1] for part in found])),
        "last_seen": _iso(max([part[2] for part in found])),
        "parts": parts,
    }
    details = [part[3] for part in found if len(part) > 3]
    if details:
        rollup |= combined(details)
    if pane:
        rollup["pane"] = pane
    start, end = _iso(key.start * 1000), _iso((key.start + key.window_s) * 1000)
    return {
        "@timestamp": start,
        "event": {"kind": "metric", "start": start, "end": end},
        "flowlogs": {"rollup": rollup},
        **_about(key, tuple(dimensions.items())),
    }


def _about(key: RollUpKey, dimensions: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    """Return what a document says of its key; what is the same for many is made once, and never changed."""
    about = _about_many(dimensions)
    if key.key_type != "interface":
        return about
    aws = about.get("aws", {})
    return {**about, "aws": {**aws, "vpcflow": {**aws.get("vpcflow", {}), "interface_id": key.key}}}


@lru_cache(maxsize=10_000)
def _about_many(dimensions: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    about: dict[str, Any] = {}
    for name, value in dimensions:
        if value:
            _put(about, DIMENSIONS[name], value)
    return about


def _totals(counters: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the sums; a part that an earlier version stored has fewer counters: what it did not count is 0."""
    width = len(COUNTERS)
    if len(counters) == 1 and len(counters[0]) == width:
        return counters[0]
    return list(map(sum, zip(*([*known, *[0] * (width - len(known))] for known in counters))))


@lru_cache(maxsize=10_000)
def _iso(milliseconds_: int) -> str:
    time = datetime.fromtimestamp(milliseconds_ / 1000, timezone.utc)
    return time.isoformat(timespec="milliseconds" if milliseconds_ % 1000 else "seconds").replace("+00:00", "Z")


@lru_cache(maxsize=10_000)
def _index_of_day(day: int) -> str:
    return f"{ROLLUP_INDEX_PREFIX}{datetime.fromtimestamp(day * _DAY_S, timezone.utc):%Y.%m}"


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = _steps(path)
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _at(tree: Any, path: str) -> Any:
    for name in _steps(path):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


@lru_cache(maxsize=100)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))
