"""Fuzzes one target, guided by the lines of ours that an input reaches: ``python -m tests.fuzz TARGET``.

What follows the target's name are options of libFuzzer, such as ``-max_total_time=600``. Inputs that reached something
new are kept in .fuzz/TARGET, so that the next run goes on from there. One that breaks the target is written to the
working directory: put it into tests/fuzz/found/TARGET, where it becomes a test.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path

import atheris

_RSS_MIB = 2048


def main() -> None:
    """Fuzz the target that the command line names until an input breaks it or the time is up."""
    with atheris.instrument_imports(include=["beam_flowlogs"]):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    seeds = importlib.import_module("tests.fuzz.seeds")
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(targets)}}} [libFuzzer options]")
    name = sys.argv[1]
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds.SEEDS[name]():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = corpus.with_suffix(".dict")
    words.write_bytes(b"".join(b'"%s"\n' % re.sub(rb'["\\]', rb"\\\g<0>", word) for word in seeds.WORDS[name]))
    options = ["-timeout=20", "-max_len=8192", f"-rss_limit_mb={_RSS_MIB}", f"-dict={words}", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(corpus)], targets[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
