"""A roll-up's parts in; its document out, as the bytes that are indexed, and what alert rules see of it.

Written as text around the numbers: to build the document as an object first cost more than all else of a merge.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from typing import Any

import orjson

from beam_flowlogs.rollup_details import combined
from beam_flowlogs.rollup_key import COUNTERS, DIMENSIONS, PARTS_VERSION, RollUpKey, put, to_json

_HOLE = f"\x00{secrets.token_hex(16)}\x00"
"""Stands for a value in a text that is made once for many roll-ups; nobody can log it, since it is never the same."""


def _around_counters() -> str:
    """Return the JSON of all counters, in their order, with a place for each number."""
    tree: dict[str, Any] = {}
    for name in COUNTERS:
        put(tree, name, _HOLE)
    return orjson.dumps(tree).decode()[1:-1].replace(orjson.dumps(_HOLE).decode(), "%d")


_COUNTERS = _around_counters()
_PLACE = {name: place for place, name in enumerate(COUNTERS)}
_SKIPDATA = _PLACE["skipdata"]
_SEEN = tuple((name, _PLACE[name]) for name in ("flows", "bytes", "nodata", "skipdata"))
_REJECTED = _PLACE["rejected.flows"]


class MergedRollUp:
    """One roll-up as it is to be: ``parts`` by object as documents hold them, what is known of its key, its pane.

    ``changed`` tells whether it differs from the stored one.
    """

    def __init__(
        self,
        key: RollUpKey,
        parts: Mapping[str, Sequence[Any]],
        dimensions: Mapping[str, str],
        pane: str,
        *,
        changed: bool = True,
    ) -> None:
        self._key, self._parts, self._pane = key, parts, pane
        self.dimensions, self.changed = dimensions, changed
        self._totals = _totals([part[0] for part in parts.values()])

    @cached_property
    def _details(self) -> Mapping[str, Any]:
        details = [part[3] for part in self._parts.values() if len(part) > 3]
        return combined(details) if details else {}

    def document(self) -> bytes:
        """Return the document."""
        key, totals, parts = self._key, self._totals, list(self._parts.values())
        before, after = _about(tuple(self.dimensions.items()), key.key_type == "interface")
        name = to_json(key.key)
        pane = f',"pane":"{self._pane}"' if self._pane else ""
        return b"".join(
            (
                _head(key.window_s, key.start, key.key_type),
                name,
                b",",
                (_COUNTERS % tuple(totals)).encode(),
                (
                    f',"complete":{"false" if totals[_SKIPDATA] else "true"},"objects":{len(parts)}'
                    f',"first_seen":"{_iso(min([part[1] for part in parts]))}"'
                    f',"last_seen":"{_iso(max([part[2] for part in parts]))}"{pane},"parts":'
                ).encode(),
                to_json(self._parts),
                b"," + to_json(self._details)[1:-1] if self._details else b"",
                b"}}",
                before,
                *((name, after) if after else ()),
                b"}",
            )
        )

    def seen(self) -> dict[str, Any]:
        """Return what alert rules see: the document's ``flowlogs.rollup``, as far as they look at it."""
        totals = self._totals
        seen: dict[str, Any] = {name: totals[place] for name, place in _SEEN}
        seen["rejected"] = {"flows": totals[_REJECTED]}
        return {**seen, **self._details}


def _totals(counters: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the sums; a part that an earlier version stored has fewer counters: what it did not count is 0."""
    width = len(COUNTERS)
    if len(counters) == 1 and len(counters[0]) == width:
        return counters[0]
    return list(map(sum, zip(*([*known, *[0] * (width - len(known))] for known in counters))))


@lru_cache(maxsize=10_000)
def _head(window_s: int, start_s: int, key_type: str) -> bytes:
    """Return the beginning of the documents of a window, up to their key."""
    start, end = _iso(start_s * 1000), _iso((start_s + window_s) * 1000)
    document = {
        "@timestamp": start,
        "event": {"kind": "metric", "start": start, "end": end},
        "flowlogs": {
            "rollup": {"version": PARTS_VERSION, "window": f"{window_s}s", "key_type": key_type, "key": _HOLE}
        },
    }
    return orjson.dumps(document).partition(orjson.dumps(_HOLE))[0]


def about_key(key_type: str, key: str, dimensions: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what documents say of a key: the fields of what is known of it."""
    about: dict[str, Any] = {}
    for name, value in dimensions:
        if value:
            put(about, DIMENSIONS[name], value)
    if key_type == "interface":
        put(about, "aws.vpcflow.interface_id", key)
    return about


@lru_cache(maxsize=10_000)
def _about(dimensions: tuple[tuple[str, str], ...], is_interface: bool) -> tuple[bytes, bytes]:
    """Return what documents say of their key, each field after a comma: what is before its name, and what is after."""
    about = about_key("interface" if is_interface else "", _HOLE, dimensions)
    before, _, after = orjson.dumps(about)[1:-1].partition(orjson.dumps(_HOLE))
    return (b"," + before if before else b""), after


@lru_cache(maxsize=10_000)
def _iso(milliseconds_: int) -> str:
    time = datetime.fromtimestamp(milliseconds_ / 1000, timezone.utc)
    return time.isoformat(timespec="milliseconds" if milliseconds_ % 1000 else "seconds").replace("+00:00", "Z")
