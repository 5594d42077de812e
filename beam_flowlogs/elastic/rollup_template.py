"""The mapping of roll-up documents, derived from what a roll-up counts."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.elastic.mapping import put, typed_property
from beam_flowlogs.rollup import COUNTERS, DIMENSIONS
from beam_flowlogs.rollup_details import DISTINCT, TOP

_READ_ONLY = {"type": "long", "index": False, "doc_values": False}
"""Numbers of a list's entries: they are read beside their labels; on their own nobody can search for them."""

_LABELS = {"port": "long", "protocol": "short", "action": "keyword"}


def rollup_mapping() -> dict[str, Any]:
    """Return the mapping of the roll-up indices."""
    properties: dict[str, Any] = {}
    for path, es_type in {
        "@timestamp": "date",
        "event.kind": "keyword",
        "event.start": "date",
        "event.end": "date",
        "aws.vpcflow.interface_id": "keyword",
        **dict.fromkeys(DIMENSIONS.values(), "keyword"),
        **dict.fromkeys((f"flowlogs.rollup.{name}" for name in ("window", "key_type", "key", "pane")), "keyword"),
        **dict.fromkeys((f"flowlogs.rollup.{name}" for name in (*COUNTERS, "objects")), "long"),
        **dict.fromkeys((f"flowlogs.rollup.distinct.{name}" for name in DISTINCT), "long"),
        "flowlogs.rollup.complete": "boolean",
        "flowlogs.rollup.version": "short",
        "flowlogs.rollup.first_seen": "date",
        "flowlogs.rollup.last_seen": "date",
    }.items():
        put(properties, path, typed_property(es_type, searched=es_type != "long"))
    for name, top in TOP.items():
        path = f"flowlogs.rollup.top.{name}"
        if name == "conversations":
            # Each an object of its own, so that they can be added up over roll-ups.
            put(properties, path, {"type": "nested", "properties": {}})
        for label in top.labels:
            put(properties, f"{path}.{label}", typed_property(_LABELS.get(label, "ip")))
        for value in top.values:
            put(
                properties,
                f"{path}.{value}",
                typed_property("long", searched=False) if name == "conversations" else _READ_ONLY,
            )
        put(properties, f"{path}_short_by", _READ_ONLY)
    put(properties, "flowlogs.rollup.parts", {"type": "object", "enabled": False})
    return {"dynamic": "strict", "date_detection": False, "properties": properties}
