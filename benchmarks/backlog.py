"""What Flink costs beside one process: the same backlog by `flowlogs drain` and by a job on the local Flink.

flowlogs local up --flink; eval "$(flowlogs local env)"; flowlogs setup
python -m benchmarks.backlog --objects 5000 --records 100 [--record] [--max-in-flight 10000 ...]

Objects are announced while nothing runs. Then one of the two takes them; the time runs until the last record can be
found, and for a job also until the last message is deleted, which waits for the roll-ups. The pace is that between a
tenth and nine tenths of the records, without the start. CPU is that of the drain's process, or of all of Flink's
(JobManager, TaskManager, job server, Python workers) while it has something to do. Received again are messages that
came more than once, and documents that were there already. Options that are not listed go to `flowlogs stream`.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import boto3

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.flink_rest import FlinkRest
from beam_flowlogs.local.flink import Flink
from beam_flowlogs.local.folders import state_folder
from benchmarks.freshness import object_of
from benchmarks.record import append

_PATIENCE_S = 500


class Taken(NamedTuple):
    """How a backlog was taken: seconds to the last record and to the last message, records/s, CPU, what came twice."""

    found_s: float
    done_s: float
    pace: float
    cpu_s: float
    again: str


def main() -> None:
    """Measure, print, and with --record append to results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--records", type=int, default=2500, help="records of an object")
    parser.add_argument("--only", choices=("drain", "stream"), help="one of the two")
    parser.add_argument("--record", action="store_true", help="append to results.md")
    arguments, options = parser.parse_known_args()
    total = arguments.objects * arguments.records
    rows = []
    head = (
        "| | objects | records | searchable after, s | all deleted after, s | records/s | objects/s "
        "| CPU-s per million | received again |"
    )
    print(head)
    ways: dict[str, Callable[[str, int], Taken]] = {"drain": _drain, "stream": partial(_stream, options)}
    for name in [arguments.only] if arguments.only else ways:
        account = _announce(arguments.objects, arguments.records)
        taken = ways[name](account, total)
        times = f"{taken.found_s:.0f} | {taken.done_s:.0f} | {taken.pace:,.0f} | {taken.pace / arguments.records:.0f}"
        figures = f"{times} | {taken.cpu_s * 1e6 / total:.1f} | {taken.again}"
        rows.append(f"| flowlogs {name} | {arguments.objects:,} | {total:,} | {figures} |")
        print(rows[-1], flush=True)
    if arguments.record:
        told = " ".join([f"--objects {arguments.objects} --records {arguments.records}", *options])
        about = f"`python -m benchmarks.backlog {told}`"
        append("A backlog by a drain and on Flink", about, [head, "|---|--:|--:|--:|--:|--:|--:|--:|--:|", *rows])


def _announce(objects: int, records: int) -> str:
    """Put objects and return the account that their records are of."""
    account = f"{uuid.uuid4().int % 10**12:012d}"
    s3, bucket, prefix = boto3.client("s3"), os.environ["FLOWLOGS_BUCKET"], f"backlog-{uuid.uuid4().hex[:8]}"

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number}.log.gz", Body=object_of(account, number, records))

    with ThreadPoolExecutor(8) as putters:
        list(putters.map(put, range(objects)))
    return account


def _drain(account: str, total: int) -> Taken:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [sys.executable, "-m", "beam_flowlogs.cli", "drain"]
    command += ["--queue-url", os.environ["FLOWLOGS_QUEUE_URL"], "--bucket", os.environ["FLOWLOGS_BUCKET"]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as drain:
        pace = _pace(account, total, lambda: drain.poll() not in (None, 0))
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, seconds, pace, cpu_s, "")


def _stream(options: Sequence[str], account: str, total: int) -> Taken:
    command = [sys.executable, "-m", "beam_flowlogs.cli", "stream"]
    subprocess.run([*command, "start", *options], check=True)
    began, cpu_before = time.monotonic(), _cpu_of_flink()
    try:
        pace = _pace(account, total)
        found_s = time.monotonic() - began
        _wait(lambda: queued() == 0)
        done_s, cpu_s = time.monotonic() - began, _cpu_of_flink() - cpu_before
        flink = FlinkRest(os.environ["FLOWLOGS_FLINK_URL"])
        time.sleep(11)  # Flink takes up counters every ten seconds
        counters = flink.metrics(flink.running("flowlogs").id, "flowlogs_").counters
        again = f"{counters.get('messages_redelivered', 0)}, {counters.get('duplicates', 0)}"
        return Taken(found_s, done_s, pace, cpu_s, again)
    finally:
        subprocess.run([*command, "stop"], check=True)


def _pace(account: str, total: int, has_failed: Callable[[], bool] = lambda: False) -> float:
    """Wait until all records are found; return how many a second there were between a tenth and nine tenths."""
    seen: list[tuple[float, int]] = []

    def all_found() -> bool:
        if has_failed():
            raise SystemExit("the drain has failed")
        seen.append((time.monotonic(), _count(account)))
        return seen[-1][1] >= total

    _wait(all_found)
    (begin, first), (end, last) = (next(at for at in seen if at[1] >= total * share / 10) for share in (1, 9))
    return (last - first) / (end - begin) if end > begin else float("nan")


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not done within {_PATIENCE_S} s")
        time.sleep(0.5)


def _count(account: str) -> int:
    client = connect(ElasticsearchConfig.from_environment(os.environ))
    client.indices.refresh(index="flowlogs-raw-*", ignore_unavailable=True)
    query = {"term": {"cloud.account.id": account}}
    return int(client.count(index="flowlogs-raw-*", ignore_unavailable=True, query=query)["count"])


def queued() -> int:
    """Messages in the queue, received or not."""
    sqs = boto3.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=os.environ["FLOWLOGS_QUEUE_URL"], AttributeNames=["All"])["Attributes"]
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


def _cpu_of_flink() -> float:
    """CPU-seconds so far of the local Flink's servers and of the processes that its worker pool has started."""
    servers = [server.child.pid for server in Flink(state_folder() / "flink").servers()]
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,cputimes="], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return sum(cpu for pid, parent, cpu in rows if pid in servers or parent in servers)


if __name__ == "__main__":
    main()
