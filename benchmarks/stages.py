"""What a million flow log records cost, stage by stage and format by format: ``make bench``.

``python -m benchmarks.stages --help`` tells the options; README.md in this folder how to read the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from beam_flowlogs import kernel
from benchmarks import peers
from benchmarks.data import FORMATS, make_objects
from benchmarks.measure import Cost, Objects, measure
from benchmarks.record import RESULTS, append
from benchmarks.stub import serving

_OURS = ("inflate", "decode", "documents", "roll up", "send", "S3 to sent bulk")
_QUICK_RECORDS = 20_000
_LIBRARIES = ("pyarrow", "numpy", "isal", "elasticsearch", "boto3")


class Line(NamedTuple):
    """A line of the table: CPU-seconds per million, records a CPU-second, times inflate (None: none), peak MiB."""

    format: str
    stage: str
    cpu_s_per_million: float
    records_per_cpu_s: int
    times_inflate: float | None
    peak_mib: int


def main() -> None:
    """Measure, print the table, and with ``--record`` append it to results.md."""
    options = _options()
    records, rounds = (_QUICK_RECORDS, 2) if options.quick else (options.records, options.rounds)
    lines = []
    if not options.json:
        print("\n".join(_HEAD))
    if kernel.compiled is None and not options.pure:
        print("The compiled loops are not built: this measures the Python beside them.", file=sys.stderr)
    for line in _measured(options.format or list(FORMATS), records, rounds, pure=options.pure):
        lines.append(line)
        if not options.json:
            print(_row(line), flush=True)
    quoted = ["", *peers.quoted_table()] if any(line.format == "v2" for line in lines) else []
    if options.json:
        print(json.dumps([line._asdict() for line in lines]))
    else:
        print("\n".join(quoted))
    if options.record:
        pure = options.pure or kernel.compiled is None
        run = f"`python -m benchmarks.stages --records {records} --rounds {rounds}{' --pure' * pure}`"
        libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
        about = f"{run}; Python {platform.python_version()}, {libraries}"
        append("Stages", about, [*_HEAD, *map(_row, lines), *quoted])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000, help="records of each format (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the first; the best counts (%(default)s)")
    parser.add_argument("--format", action="append", choices=FORMATS, help="only this format; may be repeated")
    parser.add_argument("--pure", action="store_true", help="without the compiled loops")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_RECORDS} records, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--record", action="store_true", help=f"append the table to {RESULTS.name}")
    return parser.parse_args()


def _measured(formats: list[str], records: int, rounds: int, *, pure: bool) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="flowlogs-bench-") as temporary:
        folder = Path(temporary)
        with serving(folder) as url:
            for name in formats:
                objects = Objects(folder, make_objects(FORMATS[name], records, folder), url)
                for stage in _stages_of(name):
                    yield _line(name, stage, measure(stage, objects, rounds, pure=pure))
                for key in objects.keys:
                    (folder / key).unlink()


def _stages_of(name: str) -> Iterator[str]:
    yield from _OURS if name != "v2 Parquet" else _OURS[1:]  # Parquet inflates inside, column by column
    if name == "v2":
        if peers.is_installed():
            yield peers.FLOWLOGS_READER
        else:
            print("flowlogs-reader is not installed, so it is left out: pip install '.[bench]'", file=sys.stderr)


def _line(name: str, stage: str, cost: Cost) -> Line:
    best = min(cost.cpu)
    ratio = statistics.median(mine / inflate for mine, inflate in zip(cost.cpu, cost.inflate_cpu))
    return Line(
        name,
        stage,
        round(best * 1e6 / cost.records, 3),
        round(cost.records / best),
        None if name == "v2 Parquet" else round(ratio, 1),
        cost.peak_rss >> 20,
    )


_HEAD = (
    "| format | stage | CPU-s per million records | records per CPU-s | x inflate | peak RSS, MiB |",
    "|---|---|--:|--:|--:|--:|",
)


def _row(line: Line) -> str:
    ratio = "" if line.times_inflate is None else f"{line.times_inflate:.1f}"
    return (
        f"| {line.format} | {line.stage} | {line.cpu_s_per_million:.2f} | {line.records_per_cpu_s:,} "
        f"| {ratio} | {line.peak_mib} |"
    )


if __name__ == "__main__":
    main()
