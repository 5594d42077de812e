"""What a million raw documents cost in Elasticsearch, in bytes of disk and CPU-seconds, under several mappings.

``python -m benchmarks.index_size --help`` tells the options. Bodies are rendered once and replayed to each variant.
CPU is that of the server's process: indexing until its merges have ended, and merging all to one segment after that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from elasticsearch import ApiError, Elasticsearch

from beam_flowlogs.bulk_request import SERIALIZERS
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from benchmarks.bodies import Bodies, cpu_s, replay
from benchmarks.index_variants import CHOSEN_WITHOUT_LOGSDB, VARIANTS, Variant, template
from benchmarks.record import append

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


class Server:
    """An Elasticsearch under measurement."""

    def __init__(self, server: ElasticsearchServer) -> None:
        self._pid = server.pid
        self._client = Elasticsearch(server.url, request_timeout=1800, serializers=SERIALIZERS)

    def cost(self, variant: Variant, bodies: Bodies, documents: int | None = None) -> Cost:
        """Index bodies the way of a variant."""
        for index in list(self._client.indices.get(index=_INDICES)):
            self._client.indices.delete(index=index)
        self._client.indices.put_index_template(name="flowlogs-raw", **template(variant))
        started = cpu_s(self._pid)
        replay(self._client, map(variant.body, bodies.read(documents)), _CONCURRENCY)
        self._client.indices.flush(index=_INDICES)
        self._wait_for_merges()
        indexed = cpu_s(self._pid)
        count = self._client.count(index=_INDICES)["count"]
        as_indexed = self._size()
        self._client.indices.forcemerge(index=_INDICES, max_num_segments=1)
        self._client.indices.flush(index=_INDICES, force=True)
        self._wait_for_one_segment()
        merged = cpu_s(self._pid)
        return Cost(count, as_indexed / count, self._size() / count, indexed - started, merged - indexed)

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
    parser.add_argument("--only", action="append", default=[], help="only ways whose name holds this; may be repeated")
    parser.add_argument("--record", action="store_true", help="append the table to results.md")
    options = parser.parse_args()
    lines = list(_HEAD)
    print("\n".join(lines))
    with tempfile.TemporaryDirectory(prefix="flowlogs-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # under root, Elasticsearch runs as somebody else
        bodies = Bodies(folder / "bodies", options.version, options.records, slots=24)
        with ElasticsearchServer(folder / "elasticsearch", version=options.elasticsearch) as started:
            release = Elasticsearch(started.url).info()["version"]["number"]
            server = Server(started)
            server.cost(VARIANTS[CHOSEN_WITHOUT_LOGSDB], bodies, _WARM_UP)
            for name in VARIANTS:
                if options.only and not any(part in name for part in options.only):
                    continue
                try:
                    cost = server.cost(VARIANTS[name], bodies)
                except ApiError as error:
                    print(f"{name}: this server refuses it: {error}")
                    continue
                lines.append(_row(f"{release} | v{options.version} | {name}", cost))
                print(lines[-1], flush=True)
    if options.record:
        command = f"python -m benchmarks.index_size --records {options.records} --version {options.version}"
        about = f"`{command}`: Elasticsearch {release}, heap 1 GB, one shard, no copy"
        append(f"Bytes and CPU of the raw index, {options.records:,} records", about, lines)


def _row(name: str, cost: Cost) -> str:
    million = cost.documents / 1e6
    return (
        f"| {name} | {cost.bytes_as_indexed:.1f} | {cost.bytes_merged:.1f} "
        f"| {cost.cpu_s / million:.1f} | {cost.merge_cpu_s / million:.1f} |"
    )


if __name__ == "__main__":
    main()
