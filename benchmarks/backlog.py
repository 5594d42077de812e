"""What Flink costs beside one process: the same backlog by `flowlogs drain` and by a job on the local Flink.

flowlogs local up --flink; eval "$(flowlogs local env)"; flowlogs setup
python -m benchmarks.backlog --objects 200 --records 2500 [--record]

Objects are announced while nothing runs. Then one of the two takes them; the time runs until the last record can be
found, and for a job also until the last message is deleted, which waits for the roll-ups. CPU is that of the drain's
process, or of all of Flink's (JobManager, TaskManager, job server, Python workers) while it has something to do.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.local.flink import Flink
from beam_flowlogs.local.folders import state_folder
from benchmarks.freshness import object_of
from benchmarks.record import append

_PATIENCE_S = 500


def main() -> None:
    """Measure, print, and with --record append to results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--records", type=int, default=2500, help="records of an object")
    parser.add_argument("--record", action="store_true", help="append to results.md")
    arguments = parser.parse_args()
    total = arguments.objects * arguments.records
    rows = []
    for name, measure in (("flowlogs drain", _drain), ("flowlogs stream on Flink", _stream)):
        account = _announce(arguments.objects, arguments.records)
        found_s, done_s, cpu_s = measure(account, total)
        figures = f"{found_s:.0f} | {done_s:.0f} | {total / found_s:,.0f} | {cpu_s * 1e6 / total:.1f}"
        rows.append(f"| {name} | {total:,} | {figures} |")
        print(rows[-1], flush=True)
    if arguments.record:
        head = "| | records | searchable after, s | all deleted after, s | records/s | CPU-s per million |"
        about = f"`python -m benchmarks.backlog --objects {arguments.objects} --records {arguments.records}`"
        append("A backlog by a drain and on Flink", about, [head, "|---|--:|--:|--:|--:|--:|", *rows])


def _announce(objects: int, records: int) -> str:
    """Put objects and return the account that their records are of."""
    account = f"{uuid.uuid4().int % 10**12:012d}"
    s3, bucket, prefix = boto3.client("s3"), os.environ["FLOWLOGS_BUCKET"], f"backlog-{uuid.uuid4().hex[:8]}"

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number}.log.gz", Body=object_of(account, number, records))

    with ThreadPoolExecutor(8) as putters:
        list(putters.map(put, range(objects)))
    return account


def _drain(account: str, total: int) -> tuple[float, float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "beam_flowlogs.cli", "drain"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if _count(account) < total:
        raise SystemExit("the drain has left records behind: is a job running beside it?")
    return seconds, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _stream(account: str, total: int) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "beam_flowlogs.cli", "stream"]
    subprocess.run(command, check=True)
    began, cpu_before = time.monotonic(), _cpu_of_flink()
    try:
        _wait(lambda: _count(account) >= total)
        found_s = time.monotonic() - began
        _wait(lambda: _queued() == 0)
        return found_s, time.monotonic() - began, _cpu_of_flink() - cpu_before
    finally:
        subprocess.run([*command, "stop"], check=True)


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


def _queued() -> int:
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
