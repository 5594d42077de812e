"""Files of every kind, and files past every limit, below one prefix on real servers: each is taken for what it is."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch
from pyarrow import parquet
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.fields import DEFAULT_FORMAT, FIELDS
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.reject import DeadLetters
from tests.conftest import NotifiedQueue
from tests.golden import GOLDEN, Golden

pytestmark = pytest.mark.integration

FOLDER = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2025/11/24"
NAME = "123456789012_vpcflowlogs_eu-west-1_fl-0a1_20251124T1600Z_1a2b3c4d"
HEADER = " ".join(DEFAULT_FORMAT).encode()
ROW = b"2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
NUMBERS = frozenset(field.name for field in FIELDS if field.kind.is_number)


def _backfill(url: str, bucket: str, folder: Path, *options: str) -> Any:
    program = CliRunner(env={"ELASTICSEARCH_URL": url, "COLUMNS": "200"})
    return program.invoke(app, ["backfill", f"s3://{bucket}/", "--dead-letter", str(folder), "--json", *options])


def _documents(client: Elasticsearch) -> dict[str, list[dict[str, Any]]]:
    """Return what is indexed by the key of its object, in the order of the rows."""
    client.indices.refresh(index="flowlogs-*")
    sort: list[Any] = [{"aws.s3.object.key": "asc"}, {"log.offset": "asc"}]
    found: dict[str, list[dict[str, Any]]] = {}
    for hit in client.search(index="flowlogs-raw-*", size=10_000, sort=sort)["hits"]["hits"]:
        found.setdefault(hit["_source"]["aws"]["s3"]["object"]["key"], []).append(hit["_source"])
    return found


def _parquet(golden: Golden) -> bytes:
    records = golden.records()
    columns = {}
    for at, name in enumerate(records[0]):
        texts = [None if record[name] == "-" else record[name] for record in records]
        column = pa.array(texts, pa.string())
        if name in NUMBERS:
            column = column.cast(pa.int64())
        elif at % 2:
            column = column.fill_null("-")
        columns[name.replace("-", "_")] = column
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


def _two_members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(data[100:])


def _zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def _expected(golden: Golden, bucket: str, key: str) -> list[dict[str, Any]]:
    documents = golden.documents
    for document in documents:
        document["aws"]["s3"] = {"bucket": {"name": bucket}, "object": {"key": key}}
    return [_plain(document) for document in documents]


def _plain(document: Any) -> Any:
    """Return a document as it is compared: the server may give whole seconds with milliseconds."""
    if isinstance(document, dict):
        return {name: _plain(value) for name, value in document.items()}
    return document.replace(".000Z", "Z") if isinstance(document, str) else document


def test_files_of_every_kind_below_one_prefix_are_told_apart_by_their_content(
    cluster: Elasticsearch, elasticsearch: ElasticsearchServer, make_queue: Callable[[], NotifiedQueue], tmp_path: Path
) -> None:
    by_name = {golden.name: golden for golden in GOLDEN}
    objects: dict[str, tuple[Golden, bytes]] = {}
    for golden in GOLDEN:
        if golden.names is None:  # has a header
            # No suffix says what a file is.
            objects |= {
                f"{FOLDER}/{golden.name}/plain/{NAME}.log.gz": (golden, golden.data),
                f"{FOLDER}/{golden.name}/gzip/{NAME}.log.parquet": (golden, _two_members(golden.data)),
                f"{FOLDER}/{golden.name}/zstd/{NAME}.log.gz": (golden, _zstd(golden.data)),
                f"{FOLDER}/{golden.name}/parquet/{NAME}.log.gz": (golden, _parquet(golden)),
            }
    export, default = by_name["export"], by_name["v2"]
    headerless = default.data.partition(b"\n")[2]
    objects |= {
        f"{FOLDER}/export/{NAME}.log.gz": (export, gzip.compress(export.data)),
        f"{FOLDER}/headerless/{NAME}.log.gz": (default, gzip.compress(headerless)),
    }
    bucket = make_queue().bucket
    s3 = boto3.client("s3")
    for key, (_, data) in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)

    result = _backfill(elasticsearch.url, bucket, tmp_path, "--format", " ".join(DEFAULT_FORMAT))

    assert result.exit_code == 0, result.output
    found = _documents(cluster)
    assert found.keys() == objects.keys()
    for key, (golden, _) in objects.items():
        assert [_plain(document) for document in found[key]] == _expected(golden, bucket, key), key
    assert verify(cluster, 60).differences == []


def _text(*lines: bytes) -> bytes:
    return b"\n".join([HEADER, *lines, b""])


def _times_as_parquet() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"end": [1_764_000_059] * 1000}), sink, compression="gzip", use_dictionary=False)
    return sink.getvalue()


def _footer_too_large() -> bytes:
    return _times_as_parquet()[:-8] + struct.pack("<I", 3 << 20) + b"PAR1"


def _page_too_large() -> bytes:
    """Return a file with a page that says that it unpacks to 2 GB: the second number of its header, in zigzag."""
    data = _times_as_parquet()
    page = parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0).data_page_offset
    assert data[page : page + 3] == b"\x15\x00\x15"
    return data[: page + 3] + b"\x80\xd0\xac\xf3\x0e" + data[page + 5 :]


MIB = 1 << 20
PAST_A_LIMIT: dict[str, tuple[bytes, Counter[tuple[str, str]], int]] = {
    "bomb": (gzip.compress(_text(ROW) + b"\n" * (65 * MIB)), Counter({("object", "ratio-too-high"): 1}), 1),
    "zstd bomb": (_zstd(_text(ROW) + b"\n" * (65 * MIB)), Counter({("object", "ratio-too-high"): 1}), 1),
    "too large": (_text(ROW) + b"\n" * (67 * MIB), Counter({("object", "too-large"): 1}), 1),
    "long line": (_text(ROW, b"x" * 70_000), Counter({("object", "line-too-long"): 1}), 1),
    "columns": (b" ".join([HEADER] * 20) + b"\n" + ROW, Counter({("object", "too-many-columns"): 1}), 0),
    "footer": (_footer_too_large(), Counter({("object", "too-large"): 1}), 0),
    "page": (_page_too_large(), Counter({("object", "page-too-large"): 1}), 0),
    "roll-ups": (
        _text(*(ROW.replace(b"eni-1", b"eni-%d" % at) for at in range(60))),
        Counter({("object", "too-many-roll-ups"): 1}),
        0,
    ),
    "bad rows": (
        _text(ROW, *[b"2 x y"] * 1100),
        Counter({("row", "wrong-number-of-values"): 1000, ("row", "too-many-bad-rows"): 1}),
        1,
    ),
    "other time": (_text(ROW, ROW.replace(b"1764000059", b"1774000059")), Counter({("row", "time-implausible"): 1}), 1),
    "long value": (_text(ROW, ROW.replace(b"eni-1", b"e" * 9000)), Counter({("row", "value-too-long"): 1}), 1),
}
"""An object past each limit: what becomes of it in the dead letters, and how many of its rows are indexed."""


def test_what_is_past_a_limit_is_set_aside_under_its_own_reason_and_stops_nothing_else(
    cluster: Elasticsearch, elasticsearch: ElasticsearchServer, make_queue: Callable[[], NotifiedQueue], tmp_path: Path
) -> None:
    bucket = make_queue().bucket
    s3 = boto3.client("s3")
    for name, (body, _, _) in PAST_A_LIMIT.items():
        s3.put_object(Bucket=bucket, Key=f"{FOLDER}/{name}/{NAME}.log.gz", Body=body)
    s3.put_object(Bucket=bucket, Key=f"{FOLDER}/good/{NAME}.log.gz", Body=gzip.compress(_text(ROW, ROW)))

    result = _backfill(
        elasticsearch.url, bucket, tmp_path, "--max-plain-bytes", str(66 * MIB), "--max-rollups", "50"
    )  # fmt: skip

    assert result.exit_code == 4, result.output
    assert json.loads(result.stdout)["objects"] == len(PAST_A_LIMIT) + 1
    kept: dict[str, Counter[tuple[str, str]]] = {}
    for _, reject in DeadLetters(str(tmp_path)).read():
        name = reject.key.split("/")[-2]
        kept.setdefault(name, Counter())[reject.stage, reject.reason] += 1
        assert (reject.bucket, reject.key) == (bucket, f"{FOLDER}/{name}/{NAME}.log.gz")
        assert reject.detail
    assert kept == {name: reasons for name, (_, reasons, _) in PAST_A_LIMIT.items()}
    found = {key.split("/")[-2]: len(documents) for key, documents in _documents(cluster).items()}
    assert found == {name: rows for name, (_, _, rows) in PAST_A_LIMIT.items() if rows} | {"good": 2}
    assert verify(cluster, 60).differences == []
