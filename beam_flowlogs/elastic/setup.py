"""Puts templates and lifecycle policies in place, tells what that changes, and whether they are there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from elasticsearch import ApiError, Elasticsearch

from beam_flowlogs.alert_store import ALERT_INDEX
from beam_flowlogs.bulk_request import describe
from beam_flowlogs.elastic.lifecycle import Retention, policies
from beam_flowlogs.elastic.templates import LOGSDB, VERSION, IndexLayout, templates
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

_logger = logging.getLogger(__name__)

INDEX_TEMPLATE = "index template"
COMPONENT = "component template"
POLICY = "lifecycle policy"

_LASTING = {"flowlogs-rollup@mappings": f"{ROLLUP_INDEX_PREFIX}*", "flowlogs-alerts@mappings": f"{ALERT_INDEX}*"}
"""Mappings of indices that a new version goes on writing to, and how those are named."""


class NotSetUp(RuntimeError):  # noqa: N818
    """The cluster lacks the index templates, so documents would be indexed with guessed types."""


class Change(NamedTuple):
    """One thing on the server: what it is, and what setting up does to it.

    ``what`` is created, updated, unchanged, or newer (of a later version of this program, and so left alone).
    ``lines`` say which settings differ: ``- path: what the server has``, ``+ path: what it gets``.
    """

    kind: str
    name: str
    what: str
    lines: list[str]


class Features(NamedTuple):
    """What the server can do: the index mode logsdb, and lifecycle policies."""

    logsdb: bool
    lifecycles: bool


def features(client: Elasticsearch) -> Features:
    """Ask the server what it can do: versions and distributions differ, so nothing is concluded from a number."""
    return Features(logsdb=_takes_logsdb(client), lifecycles=_has_lifecycles(client))


def set_up(
    client: Elasticsearch,
    layout: IndexLayout | None = None,
    retention: Retention | None = None,
    *,
    dry_run: bool = False,
) -> list[Change]:
    """Create or update everything that indexing needs, in the order of dependence; return what was (or would be) done.

    Done twice it changes nothing. A template shapes the indices that are created after it: those of today and before
    stay as they are, but for fields that roll-ups and alerts have more than before. Theirs are written for a month and
    longer.
    """
    able = features(client)
    wanted = templates(layout or IndexLayout(), **able._asdict())
    changes = []
    things = [
        *(
            (POLICY, name, body)
            for name, body in (policies(retention or Retention()) if able.lifecycles else {}).items()
        ),
        *((COMPONENT, name, body) for name, body in wanted.components.items()),
        *((INDEX_TEMPLATE, name, body) for name, body in wanted.indices.items()),
    ]
    for kind, name, body in things:
        change = _change(kind, name, body, _stored(client, kind, name))
        if change.what in ("created", "updated") and not dry_run:
            _put(client, kind, name, body)
        # Whatever has become of the template: it may have failed here the last time, or an old index may be back.
        if kind == COMPONENT and name in _LASTING and not dry_run:
            _add_fields(client, _LASTING[name], body["template"]["mappings"]["properties"])
        changes.append(change)
    return changes


def _add_fields(client: Elasticsearch, pattern: str, properties: Mapping[str, Any]) -> None:
    """Add fields to the indices that there are, the newest first; those that are there already change nothing.

    One that is there with another type is an error. An index with a block is left out, with a warning.
    """
    found = client.indices.get(index=pattern, allow_no_indices=True, expand_wildcards="open")
    for index in sorted(found, reverse=True):
        try:
            client.options(ignore_status=404).indices.put_mapping(index=index, properties=properties)
        except ApiError as error:
            if error.error != "cluster_block_exception":
                raise
            _logger.warning(
                "%s did not get the fields of this version, documents that have them would be rejected there: %s",
                index,
                describe(error.status_code, error.error, f"{error}. Before it is written to, run `flowlogs setup` again"),
            )


def check_set_up(client: Elasticsearch) -> None:
    """Raise NotSetUp when an index template is missing or older than this program's."""
    for name in templates(IndexLayout(), logsdb=False, lifecycles=False).indices:
        stored = _stored(client, INDEX_TEMPLATE, name)
        if stored is None or stored.get("version", 0) < VERSION:
            state = "is missing" if stored is None else "is of an older version"
            raise NotSetUp(f"the index template {name} {state} in this Elasticsearch: run `flowlogs setup` first")


def _takes_logsdb(client: Elasticsearch) -> bool:
    try:
        client.indices.simulate_template(index_patterns=["flowlogs-probe"], template={"settings": {"index": LOGSDB}})
    except ApiError as error:
        if error.status_code == 400:
            return False
        raise
    return True


def _has_lifecycles(client: Elasticsearch) -> bool:
    answer = client.options(ignore_status=(400, 404, 405)).ilm.get_status()
    return "operation_mode" in answer


def _stored(client: Elasticsearch, kind: str, name: str) -> Mapping[str, Any] | None:
    quiet = client.options(ignore_status=404)
    if kind == POLICY:
        found = quiet.ilm.get_lifecycle(name=name).get(name)
        return found["policy"] if found else None
    if kind == COMPONENT:
        found = quiet.cluster.get_component_template(name=name).get("component_templates")
        return found[0]["component_template"] if found else None
    found = quiet.indices.get_index_template(name=name).get("index_templates")
    return found[0]["index_template"] if found else None


def _put(client: Elasticsearch, kind: str, name: str, body: Mapping[str, Any]) -> None:
    if kind == POLICY:
        client.ilm.put_lifecycle(name=name, policy=body)
    elif kind == COMPONENT:
        client.cluster.put_component_template(name=name, **body)
    else:
        client.indices.put_index_template(name=name, **body)


def _change(kind: str, name: str, wanted: Mapping[str, Any], stored: Mapping[str, Any] | None) -> Change:
    if stored is None:
        return Change(kind, name, "created", _lines({}, dict(_flat(wanted))))
    if stored.get("version", 0) > VERSION:
        return Change(kind, name, "newer", [])
    # The server adds members of its own, such as the time of the last change.
    ours = {name: stored[name] for name in wanted if name in stored}
    lines = _lines(dict(_flat(ours)), dict(_flat(wanted)))
    return Change(kind, name, "updated" if lines else "unchanged", lines)


def _lines(stored: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    lines = []
    for path in sorted(stored.keys() | wanted.keys()):
        if stored.get(path) != wanted.get(path):
            lines += [f"- {path}: {stored[path]}"] if path in stored else []
            lines += [f"+ {path}: {wanted[path]}"] if path in wanted else []
    return lines


def _flat(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted paths and values as text: the server turns numbers and booleans of settings into strings."""
    for name, value in body.items():
        if isinstance(value, Mapping):
            if value:
                yield from _flat(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", "{}"
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)
