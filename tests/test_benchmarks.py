from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from beam_flowlogs import __file__ as package

REPOSITORY = Path(package).parents[1]


def test_the_stage_benchmark_runs_and_the_whole_way_makes_100_000_records_a_cpu_second() -> None:
    command = [sys.executable, "-m", "benchmarks.stages", "--quick", "--json", "--format", "v2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = {line["stage"]: line for line in json.loads(done.stdout)}
    assert {"inflate", "decode", "documents", "roll up", "send", "S3 to sent bulk"} <= set(lines)
    assert lines["S3 to sent bulk"]["records_per_cpu_s"] > 100_000
    assert lines["S3 to sent bulk"]["cpu_s_per_million"] > lines["decode"]["cpu_s_per_million"] > 0
    assert lines["decode"]["times_inflate"] > 1
    assert all(20 < line["peak_mib"] < 512 for line in lines.values())
