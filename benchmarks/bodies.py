"""Bulk bodies as the pipeline makes them, rendered once into a file and replayed with a bare loop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.bulk_request import cut
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.fields import vpc_format
from beam_flowlogs.generate import GeneratorConfig, generate
from beam_flowlogs.inflate import Limits
from beam_flowlogs.object_key import parse_key
from beam_flowlogs.record_batch import decode
from beam_flowlogs.s3_object import object_id

BUCKET = "flow-logs"
_START = 1_764_028_800  # a midnight: all records are of one day, so of one index
_HEADERS = {"content-type": "application/x-ndjson", "accept": "application/json"}
_ERRORS = {"filter_path": "errors,items.*.error"}


class Bodies:
    """The bodies of ``records`` generated records in ``file``, of six flow logs and ``slots`` times five minutes.

    ``keep`` is given each object, by key, as it is made.
    """

    def __init__(
        self,
        file: Path,
        version: int,
        records: int,
        slots: int,
        keep: Callable[[str, bytes], object] = lambda _key, _body: None,
    ) -> None:
        self._file = file
        self._sizes: list[tuple[int, int]] = []
        limits = BulkConfig()
        config = GeneratorConfig(start=_START, records=records, slots=slots, names=vpc_format(version))
        with file.open("wb") as out:

            def sink(key: str, body: bytes) -> None:
                keep(key, body)
                parts = parse_key(key)
                origin = Origin(BUCKET, key, object_id(BUCKET, key, "etag"), parts.account_id, parts.region)
                for rows in decode(iter([body]), Limits()):
                    for ready in cut(bulk_items(rows, origin), 0, limits.max_bytes, limits.max_actions):
                        self._sizes.append((out.write(ready.view()), len(ready.items)))

            generate(config, sink)

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum(size for size, _ in self._sizes)

    def read(self, documents: int | None = None) -> Iterator[bytes]:
        """Yield bodies, of about so many documents or all."""
        left = documents
        with self._file.open("rb") as file:
            for size, count in self._sizes:
                if left is not None:
                    if left <= 0:
                        return
                    left -= count
                yield file.read(size)


def replay(client: Elasticsearch, bodies: Iterator[bytes], concurrency: int) -> None:
    """Send bodies, ``concurrency`` at a time, and do nothing else. Raises RuntimeError when a document is refused."""
    with ThreadPoolExecutor(concurrency) as threads:
        under_way: deque[Future[None]] = deque()
        for body in bodies:
            under_way.append(threads.submit(_post, client, body))
            if len(under_way) > concurrency:
                under_way.popleft().result()
        for future in under_way:
            future.result()


def _post(client: Elasticsearch, body: bytes) -> None:
    answer = client.perform_request("POST", "/_bulk", params=_ERRORS, headers=_HEADERS, body=body).body
    if answer["errors"]:
        raise RuntimeError(next(str(item) for item in answer["items"] if item))


def cpu_s(pid: int) -> float:
    """Return the CPU-seconds that a process has used, user and system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
