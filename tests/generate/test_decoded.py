"""What the generator writes comes back from our decoders field by field as other libraries read it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.fields import TRANSIT_GATEWAY_FORMAT, vpc_format
from beam_flowlogs.generate import FileType, GeneratorConfig, KeyLayout, generate
from beam_flowlogs.inflate import Limits
from beam_flowlogs.object_key import parse_key
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rows import Rows
from tests.generate.read_back import read_object
from tests.reference_document import reference_document

START = 1_767_268_800  # 2026-01-01T12:00Z
FORMATS = {f"v{version}": vpc_format(version) for version in (2, 3, 5, 8, 11)} | {"tgw": TRANSIT_GATEWAY_FORMAT}


def _files(**arguments: Any) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    names = arguments["names"]
    known = {"start": START, "slots": 2, "interfaces": 12, "tgw": "tgw-id" in names}
    generate(GeneratorConfig(**(known | arguments)), files.__setitem__)
    return files


def _decoded(key: str, body: bytes) -> list[Rows]:
    slot = parse_key(key).slot
    assert slot is not None
    chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    rows = list(decode(chunks, Limits(), slot_ms=int(slot.timestamp() * 1000)))
    assert all(part.bad == () for part in rows)
    return rows


@pytest.mark.parametrize("file", FileType)
@pytest.mark.parametrize("names", FORMATS.values(), ids=FORMATS)
def test_a_generated_file_is_decoded_field_by_field(names: tuple[str, ...], file: FileType) -> None:
    for key, body in _files(records=4000, names=names, file=file).items():
        expected = read_object(key, body)

        found = pa.Table.from_batches([rows.batch for rows in _decoded(key, body)])

        assert [name.replace("_", "-") for name in found.column_names] == list(expected.columns) == list(names)
        for name, column in zip(names, found.columns):
            assert column.cast(pa.string()).to_pylist() == expected[name].to_list(), name


@settings(max_examples=15)
@given(
    names=st.sampled_from(sorted(FORMATS)).flatmap(
        lambda name: st.lists(st.sampled_from(FORMATS[name]), min_size=3, max_size=30, unique=True)
    ),
    file=st.sampled_from(FileType),
    keys=st.sampled_from(KeyLayout),
    seed=st.integers(0, 1000),
)
def test_whatever_is_generated_becomes_the_documents_of_the_reference(
    names: list[str], file: FileType, keys: KeyLayout, seed: int
) -> None:
    tgw = any(name not in vpc_format(11) for name in names)
    for key, body in _files(records=60, names=tuple(names), file=file, keys=keys, seed=seed, tgw=tgw).items():
        parts = parse_key(key)
        assert parts.slot is not None
        slot_ms = int(parts.slot.timestamp() * 1000)
        origin = Origin("logs", key, "A" * 16, parts.account_id, parts.region)
        documents = [
            json.loads(item.splitlines()[1])
            for rows in _decoded(key, body)
            for item in bulk_items(rows, origin).to_pylist()
        ]
        records = [
            {name: "-" if text is None else text for name, text in record.items()}
            for record in read_object(key, body).to_dicts()
        ]
        assert sorted(documents, key=lambda document: document["log"]["offset"]) == [
            reference_document(record, at, "logs", key, parts.account_id, parts.region, slot_ms)
            for at, record in enumerate(records)
        ]
