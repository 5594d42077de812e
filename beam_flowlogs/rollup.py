"""Per-interface roll-ups: rows in, one small part for each interface and window out; parts in, a document out.

A roll-up is the union, by object, of the parts that objects contributed. Merging a part that is there replaces it by
itself, so any order, any grouping and any number of times gives the same document (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from beam_flowlogs.rollup_document import MergedRollUp
from beam_flowlogs.rollup_key import (
    COUNTERS,
    DIMENSIONS,
    KEY_COLUMNS,
    PARTS_VERSION,
    ROLLUP_INDEX_PREFIX,
    RollUpKey,
    at,
    check_windows,
    parse_duration,
    parse_window,
    parse_windows,
    to_json,
)

__all__ = [
    "COUNTERS",
    "DIMENSIONS",
    "KEY_COLUMNS",
    "PARTS_VERSION",
    "ROLLUP_INDEX_PREFIX",
    "MergedRollUp",
    "NewerRollUpError",
    "Part",
    "RollUpKey",
    "check_windows",
    "merge",
    "parse_duration",
    "parse_window",
    "parse_windows",
    "parts_of",
    "to_json",
]

_RECORDS = tuple(COUNTERS.index(name) for name in ("flows", "nodata", "skipdata"))


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


class NewerRollUpError(ValueError):
    """A stored roll-up is of a later version of this package, and would lose what this one does not know."""


def merge(key: RollUpKey, stored: Mapping[str, Any] | None, parts: Sequence[Part], pane: str = "") -> MergedRollUp:
    """Return the roll-up that holds the stored one's parts and these; it says whether that changes anything.

    ``stored`` is the ``_source`` of the document as read, None when there is none yet. ``pane`` says when these parts
    came (``early``, ``on_time``, ``late``), as far as somebody knows. Raises NewerRollUpError.
    """
    if stored is None and len(parts) == 1:  # most of them: an interface's minute lies in one object
        (part,) = parts
        return MergedRollUp(key, {part.object_id: _kept(part)}, part.dimensions, pane)
    rollup = stored["flowlogs"]["rollup"] if stored else {}
    if rollup.get("version", PARTS_VERSION) > PARTS_VERSION:
        raise NewerRollUpError(
            f"the stored roll-up is of version {rollup['version']}, and this release knows {PARTS_VERSION}: "
            "run the newer release, then replay"
        )
    known: dict[str, list[Any]] = dict(rollup.get("parts", {}))
    dimensions = {name: (stored and at(stored, path)) or "" for name, path in DIMENSIONS.items()}
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
    return MergedRollUp(key, dict(sorted(known.items())), dimensions, pane, changed=changed)


def _kept(part: Part) -> list[Any]:
    """Return a part as a document holds it, below its object's id."""
    kept = [list(part.counters), part.first_seen, part.last_seen]
    return [*kept, part.details] if part.details else kept


def _records(counters: Sequence[int]) -> int:
    """Return how many records a part counts."""
    return sum([counters[place] for place in _RECORDS])


def parts_of(document: Mapping[str, Any]) -> tuple[RollUpKey, list[Part]]:
    """Return the key of a roll-up document, and the parts that it was merged from."""
    rollup = document["flowlogs"]["rollup"]
    start = datetime.fromisoformat(document["@timestamp"].replace("Z", "+00:00"))
    key = RollUpKey(parse_window(rollup["window"]), int(start.timestamp()), rollup["key_type"], rollup["key"])
    known = {name: at(document, path) for name, path in DIMENSIONS.items()}
    dimensions = {name: value for name, value in known.items() if value}
    return key, [
        Part(object_id, counters, first_seen, last_seen, dimensions, *details)
        for object_id, (counters, first_seen, last_seen, *details) in rollup["parts"].items()
    ]
