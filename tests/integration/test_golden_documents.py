"""The golden documents on a real Elasticsearch: its templates name every field, and it gives all back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.fields import DERIVED, FIELDS
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from tests.golden import GOLDEN, Golden

pytestmark = pytest.mark.integration

CUSTOM = "flowlogs-raw@custom"
UNKNOWN = ("future_field", "another_new_field_2")
"""What the custom golden file logs and no version of the table knows."""

TYPES = {field.path: field.kind.es_type for field in FIELDS} | {field.path: field.es_type for field in DERIVED}
for _field in FIELDS:
    TYPES |= _field.copies


@pytest.fixture(scope="module")
def client(elasticsearch: ElasticsearchServer) -> Iterator[Elasticsearch]:
    """A server where no field may come up that the templates do not name."""
    with Elasticsearch(elasticsearch.url) as client:
        set_up(client)
        strict = {"properties": {"aws": {"properties": {"vpcflow": {"type": "object", "dynamic": "strict"}}}}}
        client.cluster.put_component_template(name=CUSTOM, template={"mappings": strict})
        yield client
        client.indices.delete(index=list(client.indices.get(index="flowlogs-raw-golden-*")))
        client.cluster.delete_component_template(name=CUSTOM)


def _leaves(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _known(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without the members that only a template with a gap takes."""
    vpcflow = {name: value for name, value in document["aws"]["vpcflow"].items() if name not in UNKNOWN}
    return document | {"aws": document["aws"] | {"vpcflow": vpcflow}}


def _index(client: Elasticsearch, golden: Golden, documents: list[dict[str, Any]]) -> tuple[str, list[Any]]:
    """Index documents by their position, and return the index and every item's answer."""
    index = f"flowlogs-raw-golden-{golden.name}"
    client.options(ignore_status=404).indices.delete(index=index)
    operations = [line for at, document in enumerate(documents) for line in ({"create": {"_id": str(at)}}, document)]
    answer = client.bulk(index=index, operations=operations, refresh=True)
    return index, [item["create"] for item in answer["items"]]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document's members by path. The server may give whole seconds with milliseconds."""
    return {path: value.replace(".000Z", "Z") if TYPES[path] == "date" else value for path, value in _leaves(document)}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_every_golden_document_is_taken_and_comes_back_equal(client: Elasticsearch, golden: Golden) -> None:
    documents = [_known(document) for document in golden.documents]

    index, items = _index(client, golden, documents)

    assert [item.get("error") for item in items] == [None] * len(documents)
    hits = client.search(index=index, size=1000)["hits"]["hits"]
    found = {int(hit["_id"]): _plain(hit["_source"]) for hit in hits}
    assert [found[at] for at in range(len(documents))] == [_plain(document) for document in documents]


def test_a_field_that_the_table_lacks_is_what_the_strict_template_refuses(client: Elasticsearch) -> None:
    (custom,) = (golden for golden in GOLDEN if golden.name == "custom")

    _, items = _index(client, custom, custom.documents)

    errors = [item.get("error", {}).get("type") for item in items]
    lacking = [any(name in document["aws"]["vpcflow"] for name in UNKNOWN) for document in custom.documents]
    assert errors == ["strict_dynamic_mapping_exception" if unknown else None for unknown in lacking]


def test_every_field_can_be_searched_and_aggregated_as_its_type(client: Elasticsearch) -> None:
    for golden in GOLDEN:
        _index(client, golden, [_known(document) for document in golden.documents])

    fields = client.field_caps(index="flowlogs-raw-golden-*", fields="*")["fields"]

    found = {path: kinds for path, kinds in fields.items() if path in TYPES}
    assert found.keys() == TYPES.keys()
    for path, kinds in found.items():
        assert list(kinds) == [TYPES[path]], path
        (capability,) = kinds.values()
        assert (capability["searchable"], capability["aggregatable"]) == (True, True), path


def test_documents_are_found_by_what_they_say(client: Elasticsearch) -> None:
    for golden in GOLDEN:
        _index(client, golden, [_known(document) for document in golden.documents])
    documents = [document for golden in GOLDEN for document in golden.documents]

    def count(field: str, value: Any) -> int:
        return int(client.count(index="flowlogs-raw-golden-*", query={"term": {field: value}})["count"])

    for field, value in (
        ("related.ip", "10.0.9.77"),
        ("related.ip", "2001:db8::/64"),
        ("network.community_id", "1:eLtOl5SSTfzpR0M1Lm2PsMEKnhY="),
        ("aws.vpcflow.tcp_flags_array", "syn"),
        ("event.type", "denied"),
        ("network.iana_number", "132"),
        ("source.port", 49152),
    ):
        expected = [document for document in documents if _says(document, field, value)]
        assert count(field, value) == len(expected) > 0, (field, value)


def _says(document: dict[str, Any], field: str, value: Any) -> bool:
    held = dict(_leaves(document)).get(field)
    held = held if isinstance(held, list) else [held]
    if value == "2001:db8::/64":
        return any(isinstance(item, str) and item.startswith("2001:db8::") for item in held)
    return value in held
