"""Index templates, derived from the table of fields: what Elasticsearch is told of raw documents and roll-ups."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.fields import DERIVED, FIELDS, NAMESPACE
from beam_flowlogs.rollup import COUNTERS, DIMENSIONS, ROLLUP_INDEX_PREFIX

VERSION = 1
"""Goes up with every change of a template, so that a newer one is not overwritten by an older program."""

_LONGEST_KEYWORD = 8191
"""Characters up to which a keyword is indexed: 32,766 bytes is the most that Lucene takes, four bytes a character."""

_SETTINGS = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "codec": "best_compression",
    "mapping": {"total_fields": {"limit": 500}},
}


def templates() -> dict[str, dict[str, Any]]:
    """Return the bodies of all index templates by name, as ``PUT _index_template`` takes them."""
    return {
        "flowlogs-raw": _template(f"{RAW_INDEX_PREFIX}*", _raw_mapping()),
        "flowlogs-rollup": _template(f"{ROLLUP_INDEX_PREFIX}*", _rollup_mapping()),
    }


def _template(pattern: str, mappings: dict[str, Any]) -> dict[str, Any]:
    return {
        "index_patterns": [pattern],
        "priority": 300,
        "version": VERSION,
        "_meta": {"managed_by": "beam-flowlogs"},
        "template": {"settings": {"index": _SETTINGS}, "mappings": mappings},
    }


def _raw_mapping() -> dict[str, Any]:
    types = {field.path: field.kind.es_type for field in FIELDS}
    for field in FIELDS:
        types |= field.copies
    types |= {field.path: field.es_type for field in DERIVED}
    properties: dict[str, Any] = {}
    copied = {field.path for field in FIELDS if field.copies}
    for path, es_type in types.items():
        # What is logged and stands under an ECS name too is looked up there; here it keeps doc values only.
        searched = path in _PORTS or (path not in copied and es_type != "long")
        _put(properties, path, _property(es_type, searched=searched))
    # A field that AWS has added since is kept, as a keyword; anything else unknown is an error of ours.
    vpcflow = _at(properties, NAMESPACE)
    vpcflow["dynamic"] = "true"
    return {
        "dynamic": "strict",
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [{"keywords": {"match_mapping_type": "string", "mapping": _property("keyword")}}],
        "properties": properties,
    }


_PORTS = ("source.port", "destination.port")


def _rollup_mapping() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for path, es_type in {
        "@timestamp": "date",
        "event.kind": "keyword",
        "event.start": "date",
        "event.end": "date",
        "aws.vpcflow.interface_id": "keyword",
        **dict.fromkeys(DIMENSIONS.values(), "keyword"),
        **dict.fromkeys((f"flowlogs.rollup.{name}" for name in ("window", "key_type", "key")), "keyword"),
        **dict.fromkeys((f"flowlogs.rollup.{name}" for name in (*COUNTERS, "objects")), "long"),
        "flowlogs.rollup.complete": "boolean",
        "flowlogs.rollup.first_seen": "date",
        "flowlogs.rollup.last_seen": "date",
    }.items():
        _put(properties, path, _property(es_type, searched=es_type != "long"))
    _put(properties, "flowlogs.rollup.parts", {"type": "object", "enabled": False})
    return {"dynamic": "strict", "date_detection": False, "properties": properties}


def _property(es_type: str, *, searched: bool = True) -> dict[str, Any]:
    mapping: dict[str, Any] = {"type": es_type}
    if es_type == "keyword":
        mapping["ignore_above"] = _LONGEST_KEYWORD
    if not searched:
        mapping["index"] = False
    return mapping


def _put(properties: dict[str, Any], path: str, mapping: dict[str, Any]) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        properties = properties.setdefault(parent, {"properties": {}})["properties"]
    properties[name] = mapping


def _at(properties: dict[str, Any], path: str) -> dict[str, Any]:
    node: dict[str, Any] = {"properties": properties}
    for name in path.split("."):
        node = node["properties"][name]
    return node
