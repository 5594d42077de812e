"""How near a backfill comes to what Elasticsearch can take: its rate beside that of ready bodies and a bare loop.

``python -m benchmarks.throughput --help`` tells the options. Both send the same documents to the same real server, in
turns, from a fresh process, with as many requests at once; the loop's bodies are rendered before the clock starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import boto3
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.bulk_request import SERIALIZERS
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from benchmarks.bodies import BUCKET, Bodies, cpu_s, replay
from benchmarks.record import append

_SLOTS = 4
"""Twenty minutes of six flow logs: at a million records, objects of 40,000, a busy account's."""


class Run(NamedTuple):
    """One pass over all records: seconds, and the CPU-seconds of the sender and of Elasticsearch."""

    seconds: float
    sender_cpu_s: float
    server_cpu_s: float


def _backfill(url: str, bucket: str, letters: str) -> None:
    from beam_flowlogs.run import backfill

    config = JobConfig(ElasticsearchConfig(urls=(url,)), letters, (bucket,))
    backfill(config, [f"s3://{bucket}/"], [])


def _loop(url: str, bodies: Bodies) -> None:
    with Elasticsearch(url, request_timeout=600, serializers=SERIALIZERS) as client:
        replay(client, bodies.read(), BulkConfig().concurrency)


def _timed(send: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """Run in a fresh process: the imports are over when the clock starts."""
    import beam_flowlogs.run  # noqa: F401

    started, cpu = time.monotonic(), time.process_time()
    send(*arguments)
    return time.monotonic() - started, time.process_time() - cpu


def _measure(server: ElasticsearchServer, records: int, send: Callable[..., None], *arguments: object) -> Run:
    client = Elasticsearch(server.url, request_timeout=600)
    for index in list(client.indices.get(index="flowlogs-*")):
        client.indices.delete(index=index)
    before = cpu_s(server.pid)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        seconds, sender = process.submit(_timed, send, *arguments).result()
    run = Run(seconds, sender, cpu_s(server.pid) - before)
    client.indices.refresh(index="flowlogs-raw-*")
    found = client.count(index="flowlogs-raw-*")["count"]
    if found < records:
        raise RuntimeError(f"{found} of {records} documents are there: nothing of this run may be compared")
    return run


@contextmanager
def _servers(folder: Path) -> Iterator[ElasticsearchServer]:
    with ExitStack() as stack:
        aws = stack.enter_context(AwsEmulator(folder / "aws"))
        os.environ |= aws.environment()
        server = stack.enter_context(ElasticsearchServer(folder / "elasticsearch"))
        set_up(Elasticsearch(server.url, request_timeout=600))
        yield server


def main() -> None:
    """Measure, print the table, and with ``--record`` append it to results.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="records of a pass (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each after one to warm up (%(default)s)")
    parser.add_argument("--record", action="store_true", help="append the table to results.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowlogs-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # under root, Elasticsearch runs as somebody else
        with _servers(folder) as server:
            s3 = boto3.client("s3")
            s3.create_bucket(Bucket=BUCKET)
            bodies = Bodies(
                folder / "bodies",
                version=2,
                records=options.records,
                slots=_SLOTS,
                keep=lambda key, body: s3.put_object(Bucket=BUCKET, Key=key, Body=body),
            )
            loops, backfills = [], []
            for _ in range(options.rounds + 1):
                loops.append(_measure(server, options.records, _loop, server.url, bodies))
                letters = str(folder / "letters")
                backfills.append(_measure(server, options.records, _backfill, server.url, BUCKET, letters))
    lines = _table(loops[1:], backfills[1:], options.records)
    print("\n".join(lines))
    if options.record:
        about = f"`python -m benchmarks.throughput --records {options.records}`: all on one machine"
        append("Backfill beside a bare loop over ready bodies", about, lines)


def _table(loops: list[Run], backfills: list[Run], records: int) -> list[str]:
    lines = [
        "| round | loop, records/s | backfill | ratio | CPU-s per million: loop | backfill | server, loop | backfill |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    million = records / 1e6
    for number, (loop, backfill) in enumerate(zip(loops, backfills), 1):
        lines.append(
            f"| {number} | {records / loop.seconds:,.0f} | {records / backfill.seconds:,.0f} "
            f"| {loop.seconds / backfill.seconds:.2f} | {loop.sender_cpu_s / million:.1f} "
            f"| {backfill.sender_cpu_s / million:.1f} | {loop.server_cpu_s / million:.1f} "
            f"| {backfill.server_cpu_s / million:.1f} |"
        )
    ratio = statistics.median(loop.seconds / backfill.seconds for loop, backfill in zip(loops, backfills))
    ours = sum(run.sender_cpu_s for run in backfills)
    share = ours / (ours + sum(run.server_cpu_s for run in backfills))
    return [*lines, "", f"Median ratio {ratio:.2f}; the backfill takes {share:.0%} of all CPU, Elasticsearch the rest."]


if __name__ == "__main__":
    main()
