"""A worker's memory does not depend on the object."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.generate import GeneratorConfig, generate
from benchmarks import stub

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak as Linux tells it"),
]

OBJECT_BYTES = 75_000_000  # the largest file that AWS delivers
LIMIT_MIB = 512

# In a process of its own, with Beam imported as in a worker, so that the peak is that of a worker with this object.
# Not ru_maxrss: Linux hands the peak of the process that started this one on to it.
WORKER = """
import json, re, sys
from pathlib import Path
import apache_beam
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer
from beam_flowlogs.index_object import index_object
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.s3_object import ObjectRef

url, folder = sys.argv[1:]
config = JobConfig(ElasticsearchConfig(urls=(url,)), folder, ("bucket",))
writer = bulk_writer(config.elasticsearch, BulkConfig(retry_for=60))
done = index_object(ObjectRef("bucket", "large.log.gz"), config, s3_client(), writer, DeadLetters(folder))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
print(json.dumps({"documents": done.written, "rejects": done.rejected, "reason": done.reason, "peak": peak}))
"""


def test_a_worker_stays_small_with_the_largest_object(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    config = GeneratorConfig(start=1_764_000_000, records=200_000, accounts=1, regions=1, slots=1)
    generate(config, lambda key, body: bodies.append(body))
    header = gzip.compress(" ".join(DEFAULT_FORMAT).encode() + b"\n")
    records = gzip.decompress(bodies[0]).partition(b"\n")[2]
    member = gzip.compress(records, 6)
    members = -(-OBJECT_BYTES // len(member))
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / "large.log.gz").write_bytes(header + member * members)

    with stub.serving(objects) as url:
        variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        done = subprocess.run(
            [sys.executable, "-c", WORKER, url, str(tmp_path / "dead-letters")],
            env=os.environ | variables | {"AWS_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            check=True,
            timeout=500,
        )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["documents"] == members * records.count(b"\n")
    assert (found["rejects"], found["reason"]) == (0, "")
    assert found["peak"] < LIMIT_MIB, f"{found['peak']} MiB"
