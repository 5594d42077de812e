"""The memory that decoding takes does not depend on the object: 1 GiB unpacked stays under 400 MiB."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
from pyarrow import parquet

from beam_flowlogs.fields import BY_COLUMN, DEFAULT_FORMAT

pytestmark = [
    pytest.mark.integration,  # for the time that it takes
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak as Linux tells it"),
]

PLAIN_BYTES = 1 << 30
LIMIT_MIB = 400
ROWS = 20_000
"""Rows that differ from each other, over and over: they pack well, and yet below the ratio that is held a bomb."""

# In a process of its own, because a peak is that of a whole process. Not ru_maxrss: Linux hands the peak of the process
# that started this one on to it. Addresses are parsed and ranges checked, as in a job.
DECODE = """
import json, re, sys
from pathlib import Path
from beam_flowlogs.inflate import Limits
from beam_flowlogs.record_batch import decode

with open(sys.argv[1], "rb") as stored:
    rows = bad = 0
    for batch in decode(iter(lambda: stored.read(1 << 20), b""), Limits(), slot_ms=1_764_000_000_000):
        rows += batch.batch.num_rows
        bad += len(batch.bad)
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10
print(json.dumps({"rows": rows, "bad": bad, "peak": peak}))
"""


class Stored(NamedTuple):
    path: Path
    rows: int


def _line(at: int) -> str:
    return (
        f"2 123456789012 eni-0123456789abcdef{at % 10} 10.0.{at // 256 % 256}.{at % 256} 10.1.2.3 {at} 443 6 "
        f"{at % 50} {at * 40} {1_764_000_000 + at % 60} {1_764_000_060 + at % 60} ACCEPT OK"
    )


def _gzip(folder: Path) -> Stored:
    member = "".join(f"{_line(at)}\n" for at in range(ROWS)).encode()
    packed = gzip.compress(member, 6)
    members = -(-PLAIN_BYTES // len(member))
    path = folder / "large.log.gz"
    with path.open("wb") as stored:
        stored.write(gzip.compress(" ".join(DEFAULT_FORMAT).encode() + b"\n"))
        for _ in range(members):
            stored.write(packed)
    return Stored(path, members * ROWS)


def _parquet(folder: Path) -> Stored:
    names = [name.replace("-", "_") for name in DEFAULT_FORMAT]
    texts = zip(*(_line(at).split(" ") for at in range(ROWS)))
    table = pa.table({name: pa.array(column).cast(BY_COLUMN[name].kind.arrow) for name, column in zip(names, texts)})
    path = folder / "large.log.parquet"
    written = 0
    with parquet.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False) as writer:
        while written * table.nbytes < PLAIN_BYTES:
            writer.write_table(table)
            written += 1
    return Stored(path, written * ROWS)


def _short_lines(folder: Path) -> Stored:
    """Lines of a byte, so that a block has millions; a blank one here and there has each looked at by itself."""
    piece = b"7\n" * 500_000 + b"\n"
    path = folder / "short.log"
    path.write_bytes(b"srcport\n" + piece * 10)
    return Stored(path, 5_000_000)


@pytest.mark.parametrize("make", [_gzip, _parquet, _short_lines], ids=["gzip", "parquet", "short lines"])
def test_an_object_is_decoded_in_bounded_memory(make: Callable[[Path], Stored], tmp_path: Path) -> None:
    stored = make(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", DECODE, stored.path], capture_output=True, text=True, check=True, timeout=300
    )

    found = json.loads(done.stdout)
    assert (found["rows"], found["bad"]) == (stored.rows, 0)
    assert found["peak"] < LIMIT_MIB, f"{found['peak']} MiB"
