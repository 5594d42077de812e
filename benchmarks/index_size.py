"""What a million raw documents cost in Elasticsearch, in bytes of disk and CPU-seconds, under several mappings.

``python -m benchmarks.index_size --help`` tells the options. Bodies are rendered once and replayed to each variant.
CPU is that of the server's process: indexing until its merges have ended, and merging all to one segment after that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from elasticsearch import ApiError, Elasticsearch

from beam_flowlogs.bulk_request import SERIALIZERS
from beam_flowlogs.document import Origin, bulk_items, by_presence
from beam_flowlogs.fields import vpc_format
from beam_flowlogs.generate import GeneratorConfig, generate
from beam_flowlogs.inflate import Limits
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.record_batch import decode
from beam_flowlogs.s3_object import object_id, parse_key
from benchmarks.index_variants import CHOSEN, CHOSEN_WITHOUT_LOGSDB, VARIANTS, Variant, template
from benchmarks.record import append

_START = 1_764_028_800  # a midnight: all records are of one day, so of one index
_BUCKET = "flow-logs"
_ITEMS = 5_000
_CONCURRENCY = 2
_WARM_UP = 200_000
_INDICES = "flowlogs-raw-*"


class Cost(NamedTuple):
    """What indexing cost, by document: bytes on disk as indexed and in one segment; CPU-seconds of the server."""

    documents: int
    bytes_as_indexed: float
    bytes_merged: float
    cpu_s: float
    merge_cpu_s: float


class Bodies:
    """Bulk bodies in a file, with the size of each and the number of its documents."""

    def __init__(self, file: Path, version: int, records: int) -> None:
        self._file = file
        self._sizes: list[tuple[int, int]] = []
        config = GeneratorConfig(start=_START, records=records, slots=24, names=vpc_format(version))
        with file.open("wb") as out:

            def sink(key: str, body: bytes) -> None:
                parts = parse_key(key)
                origin = Origin(_BUCKET, key, object_id(_BUCKET, key, "etag"), parts.account_id, parts.region)
                for rows in decode(iter([body]), Limits()):
                    for part in by_presence(rows):
                        items = bulk_items(part, origin)
                        for start in range(0, len(items), _ITEMS):
                            some = items.slice(start, _ITEMS).to_pylist()
                            self._sizes.append((out.write(b"".join(some)), len(some)))

            generate(config, sink)

    def read(self, documents: int | None = None) -> Iterator[bytes]:
        """Yield bodies, of about so many documents."""
        left = documents
        with self._file.open("rb") as file:
            for size, count in self._sizes:
                if left is not None:
                    if left <= 0:
                        return
                    left -= count
                yield file.read(size)


class Server:
    """An Elasticsearch under measurement."""

    def __init__(self, server: ElasticsearchServer) -> None:
        self._pid = server.pid
        self._client = Elasticsearch(server.url, request_timeout=1800, serializers=SERIALIZERS)

    def cost(self, variant: Variant, bodies: Bodies, documents: int | None = None) -> Cost:
        """Index bodies the way of a variant."""
        self._clear()
        self._client.indices.put_index_template(name="flowlogs-raw", **template(variant))
        started = self._cpu_s()
        self._send(variant, bodies.read(documents))
        self._client.indices.flush(index=_INDICES)
        self._wait_for_merges()
        indexed = self._cpu_s()
        count = self._client.count(index=_INDICES)["count"]
        as_indexed = self._size()
        self._client.indices.forcemerge(index=_INDICES, max_num_segments=1)
        self._client.indices.flush(index=_INDICES, force=True)
        self._wait_for_one_segment()
        merged = self._cpu_s()
        return Cost(count, as_indexed / count, self._size() / count, indexed - started, merged - indexed)

    def _send(self, variant: Variant, bodies: Iterator[bytes]) -> None:
        with ThreadPoolExecutor(_CONCURRENCY) as threads:
            under_way: deque[Future[None]] = deque()
            for body in bodies:
                under_way.append(threads.submit(self._post, variant.body(body)))
                if len(under_way) > _CONCURRENCY:
                    under_way.popleft().result()
            for future in under_way:
                future.result()

    def _post(self, body: bytes) -> None:
        headers = {"content-type": "application/x-ndjson", "accept": "application/json"}
        answer = self._client.perform_request(
            "POST", "/_bulk", params={"filter_path": "errors,items.*.error"}, headers=headers, body=body
        ).body
        if answer["errors"]:
            raise RuntimeError(next(str(item) for item in answer["items"] if item))

    def _clear(self) -> None:
        for index in list(self._client.indices.get(index=_INDICES)):
            self._client.indices.delete(index=index)

    def _wait_for_merges(self) -> None:
        while self._total("merge")["merges"]["current"]:
            time.sleep(0.5)

    def _wait_for_one_segment(self) -> None:
        """The segments that were merged away are deleted a moment after the merge."""
        while True:
            self._client.indices.refresh(index=_INDICES)
            stats = self._client.indices.stats(index=_INDICES, metric="segments")
            if stats["_all"]["total"]["segments"]["count"] == stats["_shards"]["successful"]:
                return
            time.sleep(0.5)

    def _size(self) -> int:
        size: int = self._total("store")["store"]["size_in_bytes"]
        return size

    def _total(self, metric: str) -> dict[str, dict[str, int]]:
        total: dict[str, dict[str, int]] = self._client.indices.stats(index=_INDICES, metric=metric)["_all"]["total"]
        return total

    def _cpu_s(self) -> float:
        """The CPU time of the server's process, in seconds."""
        after_name = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


_HEAD = (
    "| server | records | documents | bytes a record as indexed | in one segment | CPU-s per million | merging |",
    "|---|---|---|--:|--:|--:|--:|",
)


def main() -> None:
    """Measure, print the table, and with ``--record`` append it to results.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_size", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="records of each run (default: %(default)s)")
    parser.add_argument("--version", type=int, default=2, help="flow log version: all of its fields (%(default)s)")
    parser.add_argument("--elasticsearch", default="", help="release of the server; default: the newest possible")
    parser.add_argument("--chosen", action="store_true", help="only the chosen way to index")
    parser.add_argument("--record", action="store_true", help="append the table to results.md")
    options = parser.parse_args()
    lines = list(_HEAD)
    print("\n".join(lines))
    names = (CHOSEN, CHOSEN_WITHOUT_LOGSDB) if options.chosen else tuple(VARIANTS)
    with tempfile.TemporaryDirectory(prefix="flowlogs-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # under root, Elasticsearch runs as somebody else
        bodies = Bodies(folder / "bodies", options.version, options.records)
        with ElasticsearchServer(folder / "elasticsearch", version=options.elasticsearch) as started:
            release = Elasticsearch(started.url).info()["version"]["number"]
            server = Server(started)
            server.cost(VARIANTS[CHOSEN_WITHOUT_LOGSDB], bodies, _WARM_UP)
            for name in names:
                try:
                    cost = server.cost(VARIANTS[name], bodies)
                except ApiError as error:
                    print(f"{name}: this server refuses it: {error}")
                    continue
                lines.append(_row(f"{release} | v{options.version} | {name}", cost))
                print(lines[-1], flush=True)
    if options.record:
        append(
            f"Bytes and CPU of the raw index, {options.records:,} records",
            f"`python -m benchmarks.index_size`: Elasticsearch {release}, heap 1 GB, one shard, no copy",
            lines,
        )


def _row(name: str, cost: Cost) -> str:
    million = cost.documents / 1e6
    return (
        f"| {name} | {cost.bytes_as_indexed:.1f} | {cost.bytes_merged:.1f} "
        f"| {cost.cpu_s / million:.1f} | {cost.merge_cpu_s / million:.1f} |"
    )


if __name__ == "__main__":
    main()
