"""Puts the index templates in place, and tells whether they are."""

from __future__ import annotations

from typing import Any

from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.templates import VERSION, templates


class NotSetUp(RuntimeError):  # noqa: N818
    """The cluster lacks the index templates, so documents would be indexed with guessed types."""


def set_up(client: Elasticsearch) -> dict[str, str]:
    """Create or update the index templates; return what was done to each: ``created``, ``updated``, ``unchanged``.

    A template of a newer version is left alone (``newer``).
    """
    done: dict[str, str] = {}
    for name, body in templates().items():
        stored = _stored(client, name)
        if stored is None:
            done[name] = "created"
        elif stored.get("version", 0) > VERSION:
            done[name] = "newer"
            continue
        else:
            done[name] = "updated" if stored.get("version") != VERSION else "unchanged"
        client.indices.put_index_template(name=name, **body)
    return done


def check_set_up(client: Elasticsearch) -> None:
    """Raise NotSetUp when a template is missing or older than this program's."""
    for name in templates():
        stored = _stored(client, name)
        if stored is None or stored.get("version", 0) < VERSION:
            state = "is missing" if stored is None else "is of an older version"
            raise NotSetUp(f"the index template {name} {state} in this Elasticsearch: run `flowlogs setup` first")


def _stored(client: Elasticsearch, name: str) -> dict[str, Any] | None:
    answer = client.options(ignore_status=404).indices.get_index_template(name=name)
    found = answer.get("index_templates", [])
    return found[0]["index_template"] if found else None
