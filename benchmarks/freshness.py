"""How long after its notification a flow log can be searched, on a job that streams: seconds, p50 and p99.

flowlogs local up --flink; eval "$(flowlogs local env)"; flowlogs setup; flowlogs stream
python -m benchmarks.freshness --rate 10 --seconds 60 [--record]

Objects are put at a steady rate into the bucket that the job's queue hears of. The time of each runs from the answer to
its PUT, when S3 sends the notification, until a search finds all its records; the index is refreshed every second.
"""

from __future__ import annotations

import argparse
import gzip
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import boto3
import numpy as np
from elasticsearch import ApiError, Elasticsearch

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.fields import DEFAULT_FORMAT
from benchmarks.record import append

_INDEX = "flowlogs-raw-*"
_INTERFACES = 20
_MOST_INTERFACES = 2_000
_LOOK_EVERY_S = 0.25
_PATIENCE_S = 180


def main() -> None:
    """Measure, print, and with --record append to results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10, help="objects per second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--records", type=int, default=100, help="records of an object")
    parser.add_argument("--record", action="store_true", help="append to results.md")
    arguments = parser.parse_args()
    seconds = measure(arguments.rate, arguments.seconds, arguments.records)
    p50, p99 = np.percentile(seconds, [50, 99])
    row = f"| {arguments.rate:g} | {arguments.records} | {len(seconds)} | {p50:.1f} | {p99:.1f} | {max(seconds):.1f} |"
    print(row)
    if arguments.record:
        about = (
            f"`python -m benchmarks.freshness --rate {arguments.rate:g} --seconds {arguments.seconds:g}` with all on"
        )
        head = "| objects/s | records each | objects | p50, s | p99, s | longest, s |"
        append("Freshness: notification to searchable", about, [head, "|--:|--:|--:|--:|--:|--:|", row])


def measure(rate: float, seconds: float, records: int) -> list[float]:
    """Put objects at a rate for some seconds; return how long each took to be found."""
    s3, bucket = boto3.client("s3"), os.environ["FLOWLOGS_BUCKET"]
    client = connect(ElasticsearchConfig.from_environment(os.environ))
    prefix = f"freshness-{uuid.uuid4().hex[:8]}"
    account = f"{uuid.uuid4().int % 10**12:012d}"  # what is looked for: indexed in every version of the index
    sent: dict[int, float] = {}

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number}.log.gz", Body=object_of(account, number, records))
        sent[number] = time.time()

    total = round(rate * seconds)
    found: dict[int, float] = {}
    looking = threading.Thread(target=_look, args=(client, account, records, total, found))
    looking.start()
    began = time.monotonic()
    with ThreadPoolExecutor(8) as putters:
        for number in range(total):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            putters.submit(put, number)
    looking.join()
    if len(found) < total:
        raise SystemExit(
            f"{total - len(found)} of {total} objects were not found within {_PATIENCE_S} s: is a job running?"
        )
    return [found[number] - sent[number] for number in range(total)]


def _look(client: Elasticsearch, account: str, records: int, total: int, found: dict[int, float]) -> None:
    """Note when all the records of each object were found first; objects are told apart by their source port."""
    deadline = time.monotonic() + _PATIENCE_S
    known = 0
    refreshed = False
    while len(found) < total and time.monotonic() < deadline:
        if not refreshed and client.indices.exists(index=_INDEX, allow_no_indices=False):
            client.indices.put_settings(index=_INDEX, settings={"refresh_interval": "1s"})
            refreshed = True
        buckets: list[dict[str, Any]] = []
        with suppress(ApiError):  # of an index that is just being made
            answer = client.search(
                index=_INDEX,
                ignore_unavailable=True,
                size=0,
                query={"term": {"cloud.account.id": account}},
                aggs={"objects": {"terms": {"field": "source.port", "size": total}}},
            )
            buckets = answer.get("aggregations", {}).get("objects", {}).get("buckets", [])
        for bucket in buckets:
            if bucket["doc_count"] >= records:
                found.setdefault(bucket["key"], time.time())
        if len(found) > known:
            known, deadline = len(found), time.monotonic() + _PATIENCE_S
        time.sleep(_LOOK_EVERY_S)


def object_of(account: str, number: int, records: int) -> bytes:
    """Return a flow log of an account, whose records all have the object's number as source port.

    It is about twenty interfaces out of 2,000, as of many small flow logs: were all about the same ones, each minute's
    roll-ups would be of thousands of objects.
    """
    end = int(time.time())
    rest = f"10.1.0.1 {number} 443 6 10 840 {end - 60} {end} ACCEPT OK"
    lines = [" ".join(DEFAULT_FORMAT)]
    interfaces = [(number * _INTERFACES + at) % _MOST_INTERFACES for at in range(_INTERFACES)]
    lines += [f"2 {account} eni-{interfaces[at % _INTERFACES]:017x} 10.0.0.{at % 250} {rest}" for at in range(records)]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main()
