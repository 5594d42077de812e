"""Every field of a document is the Elastic Common Schema's, by name and type, or stands in a namespace of its own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.elastic.templates import IndexLayout, templates
from beam_flowlogs.fields import DERIVED, FIELDS
from tests.golden import GOLDEN

OWN = ("aws.vpcflow.", "aws.s3.", "log.offset", "flowlogs.")
"""What the schema leaves to us: AWS's own names, where a record came from, as Filebeat calls it, and our own."""
OTHERWISE = {"message": "keyword"}
"""Where ours differs: an alert's message is shown and grouped by, not searched by its words."""

_lines = (Path(__file__).parent / "data/ecs.csv").read_text().splitlines()
ECS = {row["field"]: row for row in csv.DictReader(line for line in _lines if not line.startswith("#"))}
JSON_TYPES = {"keyword": str, "ip": str, "date": str, "long": int}

PATHS: dict[str, str] = {field.path: field.es_type for field in DERIVED}
for _field in FIELDS:
    PATHS |= {_field.path: _field.kind.es_type, **_field.copies}


def _mapped(properties: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, mapping in properties.items():
        if "properties" in mapping:
            yield from _mapped(mapping["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name, mapping["type"]


COMPONENTS = templates(IndexLayout(), logsdb=True, lifecycles=True).components
MAPPED = {
    (kind, path): es_type
    for kind in ("raw", "rollup", "alerts")
    for path, es_type in _mapped(COMPONENTS[f"flowlogs-{kind}@mappings"]["template"]["mappings"]["properties"])
}


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith(OWN)])
def test_a_field_has_the_type_that_the_schema_gives_it(path: str) -> None:
    assert path in ECS, f"{path} is no field of the schema: look it up there and add it to tests/data/ecs.csv"
    assert PATHS[path] == ECS[path]["type"]


@pytest.mark.parametrize(("kind", "path"), [found for found in MAPPED if not found[1].startswith(OWN)])
def test_a_field_is_mapped_to_the_type_that_the_schema_gives_it(kind: str, path: str) -> None:
    assert path in ECS, f"{path} is no field of the schema: look it up there and add it to tests/data/ecs.csv"
    assert MAPPED[kind, path] == OTHERWISE.get(path, ECS[path]["type"])


def test_the_raw_template_maps_every_field_to_its_type() -> None:
    assert {path: es_type for (kind, path), es_type in MAPPED.items() if kind == "raw"} == PATHS


def test_the_schemas_table_has_nothing_that_no_document_has() -> None:
    assert set(ECS) <= {path for _, path in MAPPED}
    assert all(ECS[path]["type"] != es_type for path, es_type in OTHERWISE.items())


def test_values_are_written_as_the_schema_says() -> None:
    seen = set()
    for golden in GOLDEN:
        for document in golden.documents:
            for path, value in _leaves(document):
                if path.startswith(OWN):
                    continue
                seen.add(path)
                assert isinstance(value, list) == (ECS[path]["normalize"] == "array"), path
                for item in value if isinstance(value, list) else [value]:
                    assert type(item) is JSON_TYPES[ECS[path]["type"]], path
                    allowed = ECS[path]["values"].split()
                    assert item in allowed or not allowed, (path, item)
    assert seen == {path for path in PATHS if not path.startswith(OWN)}


def test_categories_are_those_that_the_schema_allows_together() -> None:
    found = {
        (event["kind"], *event["category"], *event["type"], event.get("outcome"))
        for golden in GOLDEN
        for event in (document["event"] for document in golden.documents)
    }
    assert found == {
        ("event", "network", "connection", None),
        ("event", "network", "connection", "allowed", "success"),
        ("event", "network", "connection", "denied", "failure"),
    }


def _leaves(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
