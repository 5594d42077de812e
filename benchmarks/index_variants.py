"""Ways to index raw documents that are measured beside the chosen one, each as a change of its template or bodies."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from beam_flowlogs.elastic.templates import LOGSDB, IndexLayout, templates
from beam_flowlogs.fields import FIELDS

_BY_INTERFACE = ["aws.vpcflow.interface_id", "@timestamp"]
_ADDRESSES = ("source.ip", "destination.ip", "related.ip")
_LOGGED_TWICE = frozenset({field.path for field in FIELDS if field.copies} | {"source.address", "destination.address"})
_STORED = {"mapping": {"source": {"mode": "stored"}}}
_SYNTHETIC = {"mapping": {"source": {"mode": "synthetic"}}}

Fields = Callable[[str, dict[str, Any]], None]
"""Changes the mapping of the field at a path."""


class Variant(NamedTuple):
    """A way to index: index settings beside the common ones, a change of each field's mapping, one of each body."""

    settings: Mapping[str, Any]
    fields: Fields = lambda _path, _mapping: None
    body: Callable[[bytes], bytes] = lambda body: body


def template(variant: Variant) -> dict[str, Any]:
    """Return the index template of a variant: one shard, no copy, otherwise as `flowlogs setup` makes it."""
    components = templates(IndexLayout(replicas=0), logsdb=False, lifecycles=False).components
    settings = dict(components["flowlogs-raw@settings"]["template"]["settings"]["index"])
    mapping = components["flowlogs-raw@mappings"]["template"]["mappings"]
    del settings["sort"]
    settings["store.stats_refresh_interval"] = "0s"  # sizes as they are, not as they were ten seconds ago
    for name, value in variant.settings.items():
        settings[name] = settings[name] | value if isinstance(settings.get(name), dict) else value
    for path, field in _leaves(mapping["properties"]):
        variant.fields(path, field)
    return {
        "index_patterns": ["flowlogs-raw-*"],
        "priority": 300,
        "template": {"settings": {"index": settings}, "mappings": mapping},
    }


def _leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, mapping in properties.items():
        if "properties" in mapping:
            yield from _leaves(mapping["properties"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", mapping


def _sorted(*fields: str) -> dict[str, Any]:
    return {"sort": {"field": list(fields), "order": ["asc"] * len(fields)}}


def _all_indexed(_: str, mapping: dict[str, Any]) -> None:
    mapping.pop("index", None)


def _addresses_not_indexed(path: str, mapping: dict[str, Any]) -> None:
    if path in _ADDRESSES:
        mapping["index"] = False


def _only_related_indexed(path: str, mapping: dict[str, Any]) -> None:
    if path in _ADDRESSES[:2]:
        mapping["index"] = False


def _interface_indexed(path: str, mapping: dict[str, Any]) -> None:
    if path in ("aws.vpcflow.interface_id", "network.community_id"):
        mapping.pop("index", None)


def _logged_twice_kept_once(path: str, mapping: dict[str, Any]) -> None:
    if path in _LOGGED_TWICE:
        mapping |= {"index": False, "doc_values": False}


def _random_ids(body: bytes) -> bytes:
    return re.sub(rb'"_id":"[^"]+"', lambda _: b'"_id":"%b"' % secrets.token_hex(20).encode(), body)


def _without_community_id(body: bytes) -> bytes:
    return re.sub(rb',"community_id":"[^"]+"', b"", body)


def _without_origin(body: bytes) -> bytes:
    return re.sub(rb',"s3":\{.*?\}\}\},"log":\{"offset":\d+\}', b"}", body)


_CHOSEN = LOGSDB | _sorted(*_BY_INTERFACE)

VARIANTS: Mapping[str, Variant] = {
    "every field indexed, LZ4": Variant({"codec": "default"}, _all_indexed),
    "every field indexed": Variant({}, _all_indexed),
    "doc values, addresses and time indexed": Variant({}),
    "the same, sorted by interface and time": Variant(_sorted(*_BY_INTERFACE)),
    "the same, what is logged twice not even doc values": Variant({}, _logged_twice_kept_once),
    "the same, synthetic source, not sorted": Variant(_SYNTHETIC),
    "logsdb, sorted by time": Variant(LOGSDB | _sorted("@timestamp")),
    "**logsdb, sorted by interface and time**": Variant(_CHOSEN),
    "... with stored source": Variant(_CHOSEN | _STORED),
    "... arrays in any order": Variant(_CHOSEN | {"mapping": {"synthetic_source_keep": "none"}}),
    "... no address indexed": Variant(_CHOSEN, _addresses_not_indexed),
    "... of the addresses only related.ip indexed": Variant(_CHOSEN, _only_related_indexed),
    "... interface and community id indexed too": Variant(_CHOSEN, _interface_indexed),
    "... every field indexed": Variant(_CHOSEN, _all_indexed),
    "... LZ4": Variant(_CHOSEN | {"codec": "default"}),
    "... sorted by interface, destination and time": Variant(
        LOGSDB | _sorted("aws.vpcflow.interface_id", "destination.ip", "@timestamp")
    ),
    "... with random ids of 40 characters": Variant(_CHOSEN, body=_random_ids),
    "... without community id": Variant(_CHOSEN, body=_without_community_id),
    "... without object key and row number": Variant(_CHOSEN, body=_without_origin),
    "... translog not synced before the answer": Variant(_CHOSEN | {"translog": {"durability": "async"}}),
    "... refreshed every second": Variant(_CHOSEN | {"refresh_interval": "1s"}),
    "... refreshed every 10 seconds": Variant(_CHOSEN | {"refresh_interval": "10s"}),
    "... two shards": Variant(_CHOSEN | {"number_of_shards": 2}),
}
"""The variants, by the names that the table gives them; documents have their source stored where nothing is said."""

CHOSEN_WITHOUT_LOGSDB = "the same, sorted by interface and time"
"""The chosen way where the server has no logsdb."""
