"""Every field of a document is the Elastic Common Schema's, by name and type, or stands in a namespace of its own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.fields import DERIVED, FIELDS
from tests.golden import GOLDEN

OWN = ("aws.vpcflow.", "aws.s3.", "log.offset")
"""What the schema leaves to us: AWS's own names, and where a record came from, as Filebeat calls it."""

_lines = (Path(__file__).parent / "data/ecs.csv").read_text().splitlines()
ECS = {row["field"]: row["type"] for row in csv.DictReader(line for line in _lines if not line.startswith("#"))}
WRITTEN_AS = {"keyword": "string", "ip": "string", "date": "string", "long": "number"}

PATHS: dict[str, str] = {field.path: field.es_type for field in DERIVED}
for _field in FIELDS:
    PATHS |= {_field.path: _field.kind.es_type, **_field.copies}


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith(OWN)])
def test_a_field_has_the_type_that_the_schema_gives_it(path: str) -> None:
    assert path in ECS, f"{path} is no field of the schema: look it up there and add it to tests/data/ecs.csv"
    assert ECS[path].partition(" | ")[0] == WRITTEN_AS[PATHS[path]]


def test_the_schemas_table_has_nothing_that_no_document_has() -> None:
    assert set(ECS) <= set(PATHS)


def test_values_are_written_as_the_schema_says() -> None:
    seen = set()
    for golden in GOLDEN:
        for document in golden.documents:
            for path, value in _leaves(document):
                if path.startswith(OWN):
                    continue
                seen.add(path)
                kind = ECS[path]
                if kind == "string | Array<string>":
                    assert isinstance(value, list), path
                    assert all(isinstance(item, str) for item in value), path
                else:
                    assert type(value) is {"string": str, "number": int}[kind], path
    assert seen == set(ECS)


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
