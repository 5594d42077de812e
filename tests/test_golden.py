"""Every kind of flow log becomes the documents that are written beside it, member by member."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from beam_flowlogs.document import bulk_items
from beam_flowlogs.fields import DERIVED, FIELDS
from beam_flowlogs.inflate import Limits
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rows import Rows
from tests.golden import GOLDEN, Golden

NUMBERS = frozenset(field.name for field in FIELDS if field.kind.is_number)


def _rendered(golden: Golden, data: bytes) -> list[dict[str, Any]]:
    documents = []
    for rows in decode(iter([data]), Limits(), names=golden.names, slot_ms=golden.slot_ms):
        assert rows.bad == ()
        documents += [json.loads(item.split(b"\n")[1]) for item in _items(rows, golden)]
    return sorted(documents, key=lambda document: document["log"]["offset"])


def _items(rows: Rows, golden: Golden) -> Iterator[bytes]:
    yield from bulk_items(rows, golden.origin).to_pylist()


def _dashes(document: Any) -> bool:
    if isinstance(document, dict):
        return any(map(_dashes, document.values()))
    return document in ("-", None, [], {}, "")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_flow_log_becomes_its_documents(golden: Golden) -> None:
    for data in (golden.data, gzip.compress(golden.data), golden.data.replace(b"\n", b"\r\n")):
        assert _rendered(golden, data) == golden.documents


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_dash_never_reaches_a_document(golden: Golden) -> None:
    assert not any(map(_dashes, golden.documents))


@pytest.mark.parametrize("integers", [pa.int32(), pa.int64(), pa.string()], ids=str)
@pytest.mark.parametrize("absent", [None, "-"], ids=["null", "dash"])
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_parquet_file_becomes_the_same_documents(golden: Golden, absent: str | None, integers: pa.DataType) -> None:
    columns = {}
    for field in golden.records()[0]:
        texts = [None if record[field] == "-" else record[field] for record in golden.records()]
        column = pa.array(texts, pa.string())
        if field in NUMBERS and integers != pa.string():
            # Totals and times are 64 bits wide in every file: only the small numbers vary.
            wide = any(text is not None and int(text) >= 1 << 31 for text in texts)
            column = column.cast(pa.int64() if wide else integers)
        elif absent:
            column = column.fill_null(absent)
        columns[field.replace("-", "_")] = column
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, row_group_size=7)

    assert _rendered(golden, sink.getvalue()) == golden.documents


def test_every_field_of_the_table_is_logged_somewhere_and_every_computed_one_given() -> None:
    paths = {path for golden in GOLDEN for document in golden.documents for path in _paths(document)}
    expected = {field.path for field in FIELDS} | {path for field in FIELDS for path in field.copies}
    expected |= {field.path for field in DERIVED}

    assert expected - paths == set()
    assert paths - expected == {"aws.vpcflow.future_field", "aws.vpcflow.another_new_field_2"}


def _paths(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield prefix + name
