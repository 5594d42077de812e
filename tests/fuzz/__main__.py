"""Fuzzes one target, guided by the lines of ours that an input reaches: ``python -m tests.fuzz TARGET``.

What follows the target's name are options of libFuzzer, such as ``-max_total_time=600``. An input that breaks a target
is written to the working directory: put it into tests/fuzz/found/TARGET, where it becomes a test.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import tempfile
from pathlib import Path

import atheris

_RSS_MIB = 2048


def main() -> None:
    """Fuzz the target that the command line names until an input breaks it or the time is up."""
    with atheris.instrument_imports(include=["beam_flowlogs"]):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    seeds = importlib.import_module("tests.fuzz.seeds").seeds()
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(targets)}}} [libFuzzer options]")
    name = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix=f"flowlogs-fuzz-{name}-") as corpus:
        for seed in seeds[name]:
            (Path(corpus) / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        options = ["-timeout=20", "-max_len=8192", f"-rss_limit_mb={_RSS_MIB}", *sys.argv[2:]]
        atheris.Setup([sys.argv[0], *options, corpus], targets[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
