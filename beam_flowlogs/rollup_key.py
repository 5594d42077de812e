"""What a roll-up is of and is called: windows, keys, ids, and the names and order of all that is counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

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
    "ecs_service_name": "service.name",
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


def to_json(value: Any) -> bytes:
    """Return a value as JSON; a sum of more than 64 bits too, which Elasticsearch then refuses: a reject of its own."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


@lru_cache(maxsize=10_000)
def _index_of_day(day: int) -> str:
    return f"{ROLLUP_INDEX_PREFIX}{datetime.fromtimestamp(day * _DAY_S, timezone.utc):%Y.%m}"


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set what stands at a path, such as ``a.b``."""
    *parents, name = _steps(path)
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def at(tree: Any, path: str) -> Any:
    """Return what stands at a path, None if nothing does."""
    for name in _steps(path):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


@lru_cache(maxsize=100)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))
