"""What roll-ups add to the way, by the number of interfaces: CPU, bytes that cross a shuffle, documents, merges.

``python -m benchmarks.rollups --help`` tells the options. One delivery slot of five minutes is rolled up in windows of
a minute. CPU is that of this process, best of the rounds. With ``--elasticsearch`` the merge is measured too, beside
plain indexing of the same documents, on a real server that is started for it.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.fields import vpc_format
from beam_flowlogs.generate import GeneratorConfig, generate
from beam_flowlogs.inflate import Limits
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.part_codec import decode_parts, encode_parts
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rollup import Part, RollUpKey, merge
from beam_flowlogs.rollup_store import RollUpStore, item_of
from benchmarks.bodies import cpu_s
from benchmarks.record import append
from benchmarks.rollup_way import cpu_of

_COLUMNS = (
    "format", "interfaces", "roll-ups", "records each", "raw, CPU-s per million", "roll up", "merge", "with the runner",
    "rules", "added", "us each", "bytes a part", "MB shuffled per million", "bytes a document",
)  # fmt: skip
_HEAD = (f"| {' | '.join(_COLUMNS)} |", "|---" + "|--:" * (len(_COLUMNS) - 1) + "|")
_SERVER_HEAD = (
    "| roll-ups | what | seconds | server CPU-s | microseconds of server CPU each |",
    "|--:|---|--:|--:|--:|",
)

T = TypeVar("T")
Parts = Sequence[tuple[RollUpKey, Part]]


class Measured(NamedTuple):
    """CPU-seconds of a pass over all records, by step, and what came out."""

    raw_s: float
    roll_up_s: float
    merge_s: float
    job_s: float
    watched_s: float
    parts: Parts
    shuffled: int
    documents: int


def main() -> None:
    """Measure and print; with ``--record`` append the tables to results.md."""
    options = _options()
    lines, last = list(_HEAD), None
    print("\n".join(_HEAD))
    for version in options.format:
        for interfaces in options.interfaces:
            last = _measure(version, interfaces, options)
            lines.append(_row(version, interfaces, options.records, last))
            print(lines[-1], flush=True)
    if options.elasticsearch and last:
        found = [*_SERVER_HEAD, *_on_a_server(last.parts)]
        print("\n".join(["", *found]))
        lines += ["", *found]
    if options.record:
        about = f"{options.records:,} records of one slot of five minutes, windows of 60 s, {options.rounds} rounds"
        append("Roll-ups", about, lines)


def _measure(version: int, interfaces: int, options: argparse.Namespace) -> Measured:
    config = GeneratorConfig(
        start=1_767_268_800, records=options.records, accounts=1, regions=1, interfaces=interfaces, slots=1,
        names=vpc_format(version),
    )  # fmt: skip
    bodies: list[bytes] = []
    generate(config, lambda _, body: bodies.append(body))
    rounds = [_pass(bodies, options) for _ in range(options.rounds)]
    best = rounds[0]
    return best._replace(
        raw_s=min(found.raw_s for found in rounds),
        roll_up_s=min(found.roll_up_s for found in rounds),
        merge_s=min(found.merge_s for found in rounds),
        job_s=min(found.job_s for found in rounds),
        watched_s=min(found.watched_s for found in rounds),
    )


def _pass(bodies: Sequence[bytes], options: argparse.Namespace) -> Measured:
    raw_s = roll_up_s = 0.0
    parts: list[tuple[RollUpKey, Part]] = []
    for number, body in enumerate(bodies):
        origin = Origin("bucket", f"key-{number}", f"object{number:010}", "123456789012", "eu-west-1")
        collected = PartsOfObject(origin, (60,), details=options.rollup_details, conversations=options.conversations)
        batches = decode(iter([body]), Limits())
        while True:
            rows, seconds = _timed(next, batches, None)
            raw_s += seconds
            if rows is None:
                break
            raw_s += _timed(bulk_items, rows, origin)[1]
            roll_up_s += _timed(collected.add, rows)[1]
        finished, seconds = _timed(collected.finish)
        roll_up_s += seconds
        parts += finished
    encoded, encode_s = _timed(lambda: list(encode_parts(parts)))
    documents, merge_s = _timed(
        lambda: sum(
            len(item_of(key, merge(key, None, [part])))
            for shard, _, data in encoded
            for key, part in decode_parts(shard, data)
        )
    )
    shuffled = sum(len(data) for _, _, data in encoded)
    job_s = cpu_of(parts, rules=False)
    watched_s = cpu_of(parts, rules=True)
    return Measured(raw_s, roll_up_s, encode_s + merge_s, job_s, watched_s, parts, shuffled, documents)


def _timed(action: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    began = time.process_time()
    done = action(*arguments)
    return done, time.process_time() - began


def _row(version: int, interfaces: int, records: int, found: Measured) -> str:
    million = records / 1e6
    count = len(found.parts)
    added = (found.roll_up_s + found.job_s) / found.raw_s
    seconds = (found.raw_s, found.roll_up_s, found.merge_s, found.job_s, found.watched_s - found.job_s)
    cells = [f"v{version}", f"{interfaces:,}", f"{count:,}", f"{records / count:,.0f}"]
    cells += [f"{spent / million:.2f}" for spent in seconds]
    cells += [f"{added:.0%}", f"{found.job_s / count * 1e6:.0f}", f"{found.shuffled / count:,.0f}"]
    cells += [f"{found.shuffled / 1e6 / million:,.1f}", f"{found.documents / count:,.0f}"]
    return f"| {' | '.join(cells)} |"


def _on_a_server(parts: Parts) -> list[str]:
    """Index the roll-ups plainly, create them by merging, merge a second object into each, and that again."""
    documents = [(key, merge(key, None, [part])) for key, part in parts]
    others = [(key, part._replace(object_id="other-object-000")) for key, part in parts]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with ElasticsearchServer(Path(folder), heap="1g") as server:
            config = ElasticsearchConfig(urls=(server.url,))
            client = connect(config)
            set_up(client)
            writer = bulk_writer(config, BulkConfig())
            store = RollUpStore(lambda: connect(config), writer)

            def plain() -> None:
                for begin in range(0, len(documents), 500):
                    some = documents[begin : begin + 500]
                    writer.write(pa.array([item_of(key, rollup) for key, rollup in some], pa.binary()))

            def merged(found: Parts) -> None:
                for begin in range(0, len(found), 500):
                    store.merge({key: [part] for key, part in found[begin : begin + 500]})

            def emptied() -> None:
                client.indices.delete(index=sorted({key.index_name for key, _ in parts}))

            for what, action in (
                ("", plain),  # the server is warm then
                ("", emptied),
                ("indexed plainly", plain),
                ("", emptied),
                ("created by merging", lambda: merged(parts)),
                ("a second object merged into each", lambda: merged(others)),
                ("the same again, which changes nothing", lambda: merged(others)),
            ):
                began, cpu = time.monotonic(), cpu_s(server.pid)
                action()
                if what:
                    took, used = time.monotonic() - began, cpu_s(server.pid) - cpu
                    each = used / len(parts) * 1e6
                    lines.append(f"| {len(parts):,} | {what} | {took:.1f} | {used:.1f} | {each:,.0f} |")
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000, help="records of each pass (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="passes; the best counts (%(default)s)")
    parser.add_argument("--interfaces", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--format", type=int, nargs="+", default=[2, 5], help="versions of the format (2 5)")
    parser.add_argument("--rollup-details", action="store_true", help="with distinct counts and talkers")
    parser.add_argument("--conversations", type=int, default=0, help="with so many conversations of each")
    parser.add_argument("--elasticsearch", action="store_true", help="measure merging on a server too")
    parser.add_argument("--record", action="store_true", help="append the tables to results.md")
    return parser.parse_args()


if __name__ == "__main__":
    gc.disable()
    main()
