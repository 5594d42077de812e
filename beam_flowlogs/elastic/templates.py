"""Index templates, derived from the table of fields: what Elasticsearch is told of raw documents and roll-ups."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.elastic.mapping import put, typed_property
from beam_flowlogs.elastic.rollup_template import rollup_mapping
from beam_flowlogs.fields import DERIVED, FIELDS, NAMESPACE
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

VERSION = 1
"""Goes up with every change of a template, so that a newer one is not overwritten by an older program."""

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
        "flowlogs-rollup": _template(f"{ROLLUP_INDEX_PREFIX}*", rollup_mapping()),
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
        put(properties, path, typed_property(es_type, searched=searched))
    # A field that AWS has added since is kept, as a keyword; anything else unknown is an error of ours.
    vpcflow = _at(properties, NAMESPACE)
    vpcflow["dynamic"] = "true"
    return {
        "dynamic": "strict",
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [{"keywords": {"match_mapping_type": "string", "mapping": typed_property("keyword")}}],
        "properties": properties,
    }


_PORTS = ("source.port", "destination.port")


def _at(properties: dict[str, Any], path: str) -> dict[str, Any]:
    node: dict[str, Any] = {"properties": properties}
    for name in path.split("."):
        node = node["properties"][name]
    return node
