"""Items for the sink's tests, and the proof that each of them ended exactly once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig, BulkResult, BulkWriter
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect

QUICK = {"first_delay": 0.05, "longest_delay": 0.5, "max_actions": 500}


def items(index: str, count: int, first: int = 0, size: int = 400) -> pa.Array:
    """`count` items that create documents with the ids `first`, `first + 1`, ... of about `size` bytes."""
    padding = b"x" * size
    lines = [
        b'{"create":{"_index":"%b","_id":"%d"}}\n{"n":%d,"padding":"%b"}\n' % (index.encode(), n, n, padding)
        for n in range(first, first + count)
    ]
    return pa.array(lines, pa.large_binary())


def writer(config: ElasticsearchConfig, **limits: Any) -> BulkWriter:
    """A writer that is quick to try again."""
    return BulkWriter(lambda: connect(config), BulkConfig(**(QUICK | limits)))


def make_index(client: Elasticsearch, kind: str = "sink") -> str:
    """A new index that takes these items and nothing else."""
    name = f"{kind}-{uuid.uuid4().hex[:8]}"
    properties = {"n": {"type": "long"}, "padding": {"type": "object", "enabled": False}}
    mappings = {"dynamic": "strict", "properties": properties}
    client.indices.create(index=name, settings={"number_of_replicas": 0}, mappings=mappings)
    return name


@contextmanager
def sending(sink: BulkWriter, data: pa.Array) -> Iterator[Future[BulkResult]]:
    """Write `data` meanwhile; an error of the write shows when the future is asked."""
    future: Future[BulkResult] = Future()

    def write() -> None:
        try:
            with sink.stream() as stream:
                streams.append(stream)
                stream.submit(data)
                future.set_result(stream.flush())
        except Exception as e:  # noqa: BLE001 (the test sees it)
            future.set_exception(e)

    streams: list[Any] = []
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield future
    except BaseException:
        for stream in streams:
            stream.cancel()
        raise
    finally:
        thread.join(180)


def ids_in(client: Elasticsearch, index: str) -> list[str]:
    """The ids in `index`, sorted as numbers."""
    client.indices.refresh(index=index)
    found: list[str] = []
    after: Any = None
    while True:
        page = client.search(
            index=index, size=10_000, sort=["n"], source=False, search_after=after, track_total_hits=False
        )["hits"]["hits"]
        if not page:
            return found
        found += [hit["_id"] for hit in page]
        after = page[-1]["sort"]


def assert_exact(client: Elasticsearch, index: str, count: int, result: BulkResult) -> None:
    """The documents in the index and the rejects are the ids 0 to `count` - 1, each once."""
    assert result.written + result.duplicates + len(result.rejected) == count
    rejected = {item.position for item in result.rejected}
    assert len(rejected) == len(result.rejected)
    assert ids_in(client, index) == [str(n) for n in range(count) if n not in rejected]
