"""Pieces of index mappings that several templates are made of."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.fields import LONGEST_TEXT


def typed_property(es_type: str, *, searched: bool = True) -> dict[str, Any]:
    """Return the mapping of one field; one that is not ``searched`` keeps doc values only."""
    mapping: dict[str, Any] = {"type": es_type}
    if es_type == "keyword":
        mapping["ignore_above"] = LONGEST_TEXT
    if not searched:
        mapping["index"] = False
    return mapping


def put(properties: dict[str, Any], path: str, mapping: dict[str, Any]) -> None:
    """Put a field's mapping at its dotted path into ``properties``, changing them."""
    *parents, name = path.split(".")
    for parent in parents:
        properties = properties.setdefault(parent, {"properties": {}})["properties"]
    properties[name] = mapping
