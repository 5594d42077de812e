"""Whether a job that streams under load grows: memory of each process, by the minute.

flowlogs local up --flink; eval "$(flowlogs local env)"; flowlogs setup; flowlogs stream
python -m benchmarks.soak --rate 30 --minutes 30 [--record]

Objects are put at a steady rate. Every ten seconds the resident memory of Flink's processes is noted, and the heap that
the JobManager and the TaskManager have in use; of the heap, a sawtooth, the least of each sixth of the time is told.
Slopes are over the time after the first quarter, in which heaps and caches fill.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import boto3
import numpy as np

from beam_flowlogs.flink_rest import FlinkRest
from beam_flowlogs.local.flink import Flink, FlinkServers
from beam_flowlogs.local.folders import state_folder
from benchmarks.backlog import queued
from benchmarks.freshness import object_of
from benchmarks.record import append

_EVERY_S = 10
_MIB = 1 << 20


def main() -> None:
    """Measure, print, and with --record append to results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20, help="objects per second")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--records", type=int, default=100, help="records of an object")
    parser.add_argument("--record", action="store_true", help="append to results.md")
    arguments = parser.parse_args()
    servers = Flink(state_folder() / "flink").servers()
    stop = threading.Event()
    samples: list[tuple[float, Mapping[str, float]]] = []
    sampling = threading.Thread(target=_sample, args=(servers, samples, stop))
    sampling.start()
    try:
        put = _put(arguments.rate, arguments.minutes * 60, arguments.records)
    finally:
        stop.set()
        sampling.join()
    rest = FlinkRest(servers.job_manager.url)
    job = rest.running("flowlogs").id
    counters, checkpoints = rest.metrics(job, "flowlogs_").counters, rest.checkpoints(job)
    rows = _rows(samples)
    said = (
        f"{put:,} objects were put, {counters.get('messages_deleted', 0):,} messages deleted since the job began, "
        f"{counters.get('messages_redelivered', 0)} received again, {queued()} in the queue at the end; "
        f"{checkpoints.completed} checkpoints, {checkpoints.failed} failed, the last of {checkpoints.latest_bytes:,} "
        f"bytes; {len(rest.exceptions(job))} restarts"
    )
    head = ["| MiB | start | middle | end | most | slope, MiB/h |", "|---|--:|--:|--:|--:|--:|"]
    print("\n".join([*head, *rows, "", said]))
    if arguments.record:
        told = f"`python -m benchmarks.soak --rate {arguments.rate:g} --minutes {arguments.minutes:g}` with all on"
        append("Memory of a job under load", told, [*head, *rows, "", f"{said}."])


def _put(rate: float, seconds: float, records: int) -> int:
    """Put objects at a rate; return how many."""
    s3, bucket, prefix = boto3.client("s3"), os.environ["FLOWLOGS_BUCKET"], f"soak-{uuid.uuid4().hex[:8]}"
    account = f"{uuid.uuid4().int % 10**12:012d}"

    def put(number: int) -> None:
        body = object_of(account, number % 60_000, records)
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number}.log.gz", Body=body)
        done.append(number)

    done: list[int] = []
    total, began = round(rate * seconds), time.monotonic()
    with ThreadPoolExecutor(8) as putters:
        for number in range(total):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            putters.submit(put, number)
    return len(done)


def _sample(servers: FlinkServers, samples: list[tuple[float, Mapping[str, float]]], stop: threading.Event) -> None:
    rest = servers.job_manager
    while True:
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
        rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
        by_pid = {pid: kib / 1024 for pid, _, kib in rows}
        found = {server.name: by_pid.get(server.child.pid, 0.0) for server in servers}
        pool = servers.worker_pool.child.pid
        for pid, parent, kib in rows:
            if parent == pool:
                found[f"worker {pid}"] = kib / 1024
        heap = "Status.JVM.Memory.Heap.Used"
        for entry in rest.get(f"/jobmanager/metrics?get={heap}"):
            found["heap of the JobManager"] = float(entry["value"]) / _MIB
        for manager in rest.get("/taskmanagers")["taskmanagers"]:
            for entry in rest.get(f"/taskmanagers/{manager['id']}/metrics?get={heap}"):
                found["heap of the TaskManager"] = float(entry["value"]) / _MIB
        samples.append((time.monotonic(), found))
        print(" ".join(f"{name}={value:.0f}" for name, value in found.items()), flush=True)
        if stop.wait(_EVERY_S):
            return


def _rows(samples: list[tuple[float, Mapping[str, float]]]) -> list[str]:
    rows = []
    for name in dict.fromkeys(name for _, found in samples for name in found):
        known = [(at, found[name]) for at, found in samples if name in found]
        at, values = np.array([at for at, _ in known]), np.array([value for _, value in known])
        if name.startswith("heap"):
            pieces = [piece for piece in np.array_split(np.arange(len(values)), 6) if len(piece)]
            lowest = [piece[values[piece].argmin()] for piece in pieces]
            at, values = at[lowest], values[lowest]
        later = slice(len(values) // 4, None)
        slope = np.polyfit(at[later], values[later], 1)[0] * 3600 if len(values) > 4 else float("nan")
        of = [values[0], values[len(values) // 2], values[-1], values.max()]
        rows.append(f"| {name} | {' | '.join(f'{value:,.0f}' for value in of)} | {slope:+,.0f} |")
    return rows


if __name__ == "__main__":
    main()
