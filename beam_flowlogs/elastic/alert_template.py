"""The mapping of alert documents."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.elastic.mapping import put, typed_property
from beam_flowlogs.rollup import DIMENSIONS


def alert_mapping() -> dict[str, Any]:
    """Return the mapping of the alert index."""
    keywords = (
        "event.kind",
        "event.category",
        "event.type",
        "event.module",
        "event.action",
        "rule.name",
        "rule.category",
    )
    mine = ("id", "rule", "key_type", "key", "status", "told")
    properties: dict[str, Any] = {}
    for path, es_type in {
        **dict.fromkeys(("@timestamp", "event.start", "event.end"), "date"),
        **dict.fromkeys((*keywords, "aws.vpcflow.interface_id", *DIMENSIONS.values()), "keyword"),
        **dict.fromkeys((f"flowlogs.alert.{name}" for name in mine), "keyword"),
        **dict.fromkeys(("event.severity", "flowlogs.alert.window_s", "flowlogs.alert.count"), "long"),
        **dict.fromkeys(("flowlogs.alert.value", "flowlogs.alert.threshold"), "double"),
    }.items():
        put(properties, path, typed_property(es_type))
    put(properties, "message", typed_property("keyword"))
    put(properties, "flowlogs.alert.windows", {"type": "object", "enabled": False})
    return {"dynamic": "strict", "date_detection": False, "properties": properties}
