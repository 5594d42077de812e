"""Component and index templates: what Elasticsearch is told of raw documents and roll-ups.

Mappings derive from the table of fields. Why they are as they are: docs/decisions/0050-the-raw-index-is-columns.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from beam_flowlogs.alert_store import ALERT_INDEX
from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.elastic.alert_template import alert_mapping
from beam_flowlogs.elastic.mapping import put, typed_property
from beam_flowlogs.elastic.rollup_template import rollup_mapping
from beam_flowlogs.fields import DERIVED, FIELDS, NAMESPACE
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

VERSION = 4
"""Goes up with every change of a template, so that a newer one is not overwritten by an older program."""

LOGSDB = {"mode": "logsdb"}
"""The index mode that the raw indices have where the server knows it."""

_PRIORITY = 300
"""Above the templates that come with Elasticsearch (100 to 200): the pattern of an index must not match them first."""

_SEARCHED_RAW = frozenset({"@timestamp", "source.ip", "destination.ip", "related.ip"})
"""Raw fields with an index of their own. The others are searched by their doc values, a column at a time."""

_RAW_SORT = {"sort": {"field": ["aws.vpcflow.interface_id", "@timestamp"], "order": ["asc", "asc"]}}


@dataclass(frozen=True)
class IndexLayout:
    """What an operator chooses: primary shards of a day's raw index, and copies of every index beside the primary.

    ``replicas`` None means one where the cluster has a second node.
    """

    raw_shards: int = 1
    replicas: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.raw_shards <= 1024:
            raise ValueError(f"the raw index cannot have {self.raw_shards} shards: use 1 to 1024")
        if self.replicas is not None and self.replicas < 0:
            raise ValueError(f"{self.replicas} replicas is not possible: use 0 or more")


class Templates(NamedTuple):
    """Bodies by name, as ``PUT _component_template`` and ``PUT _index_template`` take them."""

    components: dict[str, dict[str, Any]]
    indices: dict[str, dict[str, Any]]


def templates(layout: IndexLayout, *, logsdb: bool, lifecycles: bool) -> Templates:
    """Return all templates for a server that has the index mode logsdb, and lifecycle policies, or not."""
    common: dict[str, Any] = {"mapping": {"total_fields": {"limit": 500}, "ignore_malformed": False}}
    if layout.replicas is None:
        common["auto_expand_replicas"] = "0-1"
    else:
        common["number_of_replicas"] = layout.replicas
    raw = common | {"number_of_shards": layout.raw_shards, "codec": "best_compression"} | _RAW_SORT
    rollup = common | {"number_of_shards": 1, "codec": "best_compression"}
    kinds = {
        "flowlogs-raw": (RAW_INDEX_PREFIX, raw | (LOGSDB if logsdb else {}), raw_mapping()),
        "flowlogs-rollup": (ROLLUP_INDEX_PREFIX, rollup, rollup_mapping()),
        "flowlogs-alerts": (ALERT_INDEX, dict(rollup), alert_mapping()),
    }
    found = Templates({}, {})
    for name, (prefix, settings, mapping) in kinds.items():
        if lifecycles and name != "flowlogs-alerts":  # alerts are few, and are kept
            settings["lifecycle"] = {"name": name}
        found.components[f"{name}@settings"] = _versioned({"template": {"settings": {"index": settings}}})
        found.components[f"{name}@mappings"] = _versioned({"template": {"mappings": mapping}})
        found.indices[name] = _versioned(
            {
                "index_patterns": [f"{prefix}*"],
                "priority": _PRIORITY,
                "allow_auto_create": True,  # also where action.auto_create_index says no: each day needs its index
                # The last one is the operator's own: it wins, and setup never touches it.
                "composed_of": [f"{name}@settings", f"{name}@mappings", f"{name}@custom"],
                "ignore_missing_component_templates": [f"{name}@custom"],
            }
        )
    return found


def _versioned(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"version": VERSION, "_meta": {"managed_by": "beam-flowlogs"}}


def raw_mapping() -> dict[str, Any]:
    """Return the mapping of raw documents: every field of ``fields`` by its path, each with doc values."""
    types = {field.path: field.kind.es_type for field in FIELDS}
    for field in FIELDS:
        types |= field.copies
    types |= {field.path: field.es_type for field in DERIVED}
    properties: dict[str, Any] = {}
    for path, es_type in types.items():
        put(properties, path, typed_property(es_type, searched=path in _SEARCHED_RAW))
    # A field that AWS has added since is kept, as a keyword; anything else unknown is an error of ours.
    vpcflow = _at(properties, NAMESPACE)
    vpcflow["dynamic"] = "true"
    unknown = typed_property("keyword", searched=False)
    return {
        "dynamic": "strict",
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [{"keywords": {"match_mapping_type": "string", "mapping": unknown}}],
        "properties": properties,
    }


def _at(properties: dict[str, Any], path: str) -> dict[str, Any]:
    node: dict[str, Any] = {"properties": properties}
    for name in path.split("."):
        node = node["properties"][name]
    return node
