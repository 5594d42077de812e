"""How near a backfill comes to what Elasticsearch can take: its rate beside that of ready bodies and a bare loop.

``python -m benchmarks.throughput --help`` tells the options. Both send the same documents to the same real server, in
turns, from a fresh process, with as many requests at once; the loop's bodies are rendered before the clock starts.

``own``: the server has half of the cores and the sender the other half, as when each has a machine of its own; so the
server is the limit, and what is lost is lost by sending too late. ``shared``: both take what they find, and whatever
the sender computes is missing to the server. The start of the job, with nothing to do, is measured beside, and how many
requests were on the wire from the first to the last: none means that the server waited for us. Loop and backfill take
turns in being first.

``--paced`` puts a stand-in in the server's place that takes a fixed time for each body: it shows whether the sender
keeps its server at work, also on a machine that others use.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.request import urlopen

import boto3
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkConfig, BulkWriter
from beam_flowlogs.bulk_request import SERIALIZERS
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from benchmarks.bodies import BUCKET, Bodies, cpu_s, replay
from benchmarks.paced import AT_ONCE, serving
from benchmarks.record import append

_WARM_UP = 300_000
_SLOTS = 4
"""Twenty minutes of six flow logs: at a million records, objects of 40,000, a busy account's."""


class Wire(NamedTuple):
    """From the first to the last request: the shares of time with none and with one on the wire, and the mean."""

    idle: float = 0.0
    alone: float = 0.0
    requests: float = 0.0


class Run(NamedTuple):
    """One pass over all records: seconds, CPU-seconds of the sender and of Elasticsearch, and what the wire held."""

    seconds: float
    sender_cpu_s: float
    server_cpu_s: float
    wire: Wire


class Cores(NamedTuple):
    """The cores of the server and those of the sender."""

    server: frozenset[int]
    sender: frozenset[int]


def _cores(name: str) -> Cores:
    everything = sorted(os.sched_getaffinity(0))
    half = len(everything) // 2
    if name == "shared":
        return Cores(frozenset(everything), frozenset(everything))
    return Cores(frozenset(everything[:half]), frozenset(everything[half:]))


def _backfill(url: str, location: str, letters: str) -> Wire:
    from beam_flowlogs.run import backfill

    config = JobConfig(ElasticsearchConfig(urls=(url,)), letters, (BUCKET,))
    with _Watch(bulk_writer(config.elasticsearch, config.bulk)) as watch:
        backfill(config, [location], [])
    return watch.wire


def _loop(url: str, bodies: Bodies, documents: int | None = None) -> Wire:
    with Elasticsearch(url, request_timeout=600, serializers=SERIALIZERS) as client:
        replay(client, bodies.read(documents), BulkConfig().concurrency)
    return Wire()


class _Watch:
    """Looks every few milliseconds how many requests a writer has on the wire."""

    def __init__(self, writer: BulkWriter) -> None:
        self._writer = writer
        self._seen: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self._seen.append(self._writer.in_flight)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def wire(self) -> Wire:
        """What was seen between the first request and the last."""
        busy = [at for at, seen in enumerate(self._seen) if seen]
        if not busy:
            return Wire()
        seen = self._seen[busy[0] : busy[-1] + 1]
        return Wire(seen.count(0) / len(seen), seen.count(1) / len(seen), sum(seen) / len(seen))


def _timed(send: Callable[..., Wire], *arguments: object) -> tuple[float, float, Wire]:
    """Run in a fresh process: the imports are over when the clock starts."""
    import beam_flowlogs.run  # noqa: F401

    started, cpu = time.monotonic(), time.process_time()
    wire = send(*arguments)
    return time.monotonic() - started, time.process_time() - cpu, wire


class Bench:
    """A server and a bucket of flow logs; the server keeps to its cores, everything else to the sender's."""

    def __init__(self, folder: Path, cores: Cores, bodies: Bodies, records: int) -> None:
        self._bodies, self._records = bodies, records
        self._letters = str(folder / "letters")
        # Threads and processes inherit the cores of whoever starts them; Java counts them at its start.
        os.sched_setaffinity(0, cores.server)
        self._server = ElasticsearchServer(folder / "elasticsearch")
        self._server.start()
        os.sched_setaffinity(0, cores.sender)
        self._url = self._server.url
        self._client = Elasticsearch(self._url, request_timeout=600)
        set_up(self._client)

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    def warm_up(self) -> None:
        """Let the server's compiler see the work."""
        _loop(self._url, self._bodies, _WARM_UP)

    def start(self) -> Run:
        """A backfill of nothing."""
        return self.measure(0, _backfill, self._url, f"s3://{BUCKET}/nothing/", self._letters)

    def loop(self) -> Run:
        """The bare loop."""
        return self.measure(self._records, _loop, self._url, self._bodies)

    def backfill(self) -> Run:
        """The whole way."""
        return self.measure(self._records, _backfill, self._url, f"s3://{BUCKET}/", self._letters)

    def measure(self, records: int, send: Callable[..., Wire], *arguments: object) -> Run:
        """Send from a fresh process to an empty server; ``records`` have to be there afterwards."""
        client = self._client
        for index in list(client.indices.get(index="flowlogs-*")):
            client.indices.delete(index=index)
        before = cpu_s(self._server.pid)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            seconds, sender, wire = process.submit(_timed, send, *arguments).result()
        run = Run(seconds, sender, cpu_s(self._server.pid) - before, wire)
        client.indices.refresh(index="flowlogs-raw-*")
        found = client.count(index="flowlogs-raw-*")["count"]
        if found != records:
            raise RuntimeError(f"{found} of {records} documents are there: nothing of this run may be compared")
        return run


class PacedBench(Bench):
    """The same with a stand-in of a fixed pace at ``url``: what it was at work counts as its CPU-seconds."""

    def __init__(self, folder: Path, url: str, bodies: Bodies, records: int) -> None:
        self._bodies, self._records, self._url = bodies, records, url
        self._letters = str(folder / "letters")

    def measure(self, records: int, send: Callable[..., Wire], *arguments: object) -> Run:
        """Send from a fresh process."""
        before = self._worked_s()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            seconds, sender, wire = process.submit(_timed, send, *arguments).result()
        worked = self._worked_s() - before
        if bool(records) != bool(worked):
            raise RuntimeError(f"{records} records were {worked:.1f} s of work: nothing of this run may be compared")
        return Run(seconds, sender, worked, wire)

    def _worked_s(self) -> float:
        return float(urlopen(self._url).read())


@contextmanager
def _bench(folder: Path, cores: Cores, bodies: Bodies, records: int) -> Iterator[Bench]:
    before = os.sched_getaffinity(0)
    bench = Bench(folder, cores, bodies, records)
    try:
        yield bench
    finally:
        bench.close()
        os.sched_setaffinity(0, before)


def main() -> None:
    """Measure, print the table, and with ``--record`` append it to results.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="records of a pass (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each, after a warm-up (%(default)s)")
    parser.add_argument("--cores", choices=("own", "shared"), action="append", help="default: one after the other")
    parser.add_argument("--paced", type=int, metavar="RATE", help="a stand-in that takes so many records a second")
    parser.add_argument("--record", action="store_true", help="append the table to results.md")
    options = parser.parse_args()
    lines = list(_HEAD)
    print("\n".join(lines))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowlogs-bench-")))
        folder.chmod(0o755)  # under root, Elasticsearch runs as somebody else
        os.environ |= stack.enter_context(AwsEmulator(folder / "aws")).environment()
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        bodies = Bodies(
            folder / "bodies",
            version=2,
            records=options.records,
            slots=_SLOTS,
            keep=lambda key, body: s3.put_object(Bucket=BUCKET, Key=key, Body=body),
        )
        if options.paced:
            url = stack.enter_context(serving(options.paced * bodies.size / options.records))
            name = f"paced, {options.paced:,}/s"
            lines += _measured(name, PacedBench(folder, url, bodies, options.records), AT_ONCE, options)
            options.cores = []
        for name in options.cores if options.cores is not None else ["own", "shared"]:
            cores = _cores(name)
            with _bench(folder / name, cores, bodies, options.records) as bench:
                lines += _measured(name, bench, len(cores.server), options)
    if options.record:
        paced = f" --paced {options.paced}" if options.paced else ""
        about = f"`python -m benchmarks.throughput --records {options.records}{paced}`: all on one machine"
        append("Backfill beside a bare loop over ready bodies", about, lines)


def _measured(name: str, bench: Bench, server_cores: int, options: argparse.Namespace) -> list[str]:
    lines, ratios, without_start = [], [], []
    bench.warm_up()
    for number in range(1, options.rounds + 1):
        if number % 2:
            loop, backfill = bench.loop(), bench.backfill()
        else:
            backfill, loop = bench.backfill(), bench.loop()
        start = bench.start()
        ratios.append(loop.seconds / backfill.seconds)
        without_start.append(loop.seconds / (backfill.seconds - start.seconds))
        lines.append(_row(name, number, server_cores, options.records, loop, backfill, start))
        print(lines[-1], flush=True)
    median = (
        f"| {name} | median | | | {statistics.median(ratios):.2f} | {statistics.median(without_start):.2f} | | | | | |"
    )
    print(median, flush=True)
    return [*lines, median]


_HEAD = (
    "| cores | round | loop, 1/s | backfill | ratio | net of start | CPU-s/M, both | server | busy | 0 / 1 | sent |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)
"""Sender's and server's CPU-seconds per million, how much of the server's cores was busy; of the backfill the shares of
the time in which no request and in which only one was on the wire, and how many were on average."""


def _row(name: str, number: int, server_cores: int, records: int, loop: Run, backfill: Run, start: Run) -> str:
    million = records / 1e6
    busy = [f"{run.server_cpu_s / run.seconds / server_cores:.0%}" for run in (loop, backfill)]
    return (
        f"| {name} | {number} | {records / loop.seconds:,.0f} | {records / backfill.seconds:,.0f} "
        f"| {loop.seconds / backfill.seconds:.2f} "
        f"| {loop.seconds / (backfill.seconds - start.seconds):.2f} ({start.seconds:.1f}) "
        f"| {loop.sender_cpu_s / million:.1f} / {backfill.sender_cpu_s / million:.1f} "
        f"| {loop.server_cpu_s / million:.1f} / {backfill.server_cpu_s / million:.1f} "
        f"| {busy[0]} / {busy[1]} "
        f"| {backfill.wire.idle:.0%} / {backfill.wire.alone:.0%} | {backfill.wire.requests:.1f} |"
    )


if __name__ == "__main__":
    main()
