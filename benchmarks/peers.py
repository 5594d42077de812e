"""Other readers of flow logs: one that runs beside ours on the same files, and what others were measured at."""

from __future__ import annotations

import csv
import gzip
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FLOWLOGS_READER = "flowlogs-reader"


class Quoted(NamedTuple):
    """A figure that was not taken here: who, doing what, at how many CPU-seconds per million v2 records, says who."""

    name: str
    work: str
    cpu_s_per_million: str
    source: str


_SOURCE = "measured before this project began, on a machine of this kind"
QUOTED = (
    Quoted("Vector", "S3 to bulk requests, the bare fields", "14", _SOURCE),
    Quoted("Vector", "S3 to bulk requests, ECS documents", "33", _SOURCE),
    Quoted("Filebeat", "S3 to bulk requests, ECS documents", "36 to 39", _SOURCE),
)


def quoted_table() -> list[str]:
    """Return the quoted figures as the lines of a table."""
    head = ["| not run here | work | CPU-s per million v2 records | source |", "|---|---|--:|---|"]
    return head + [f"| {' | '.join(quoted)} |" for quoted in QUOTED]


def is_installed() -> bool:
    """Tell whether flowlogs-reader can run: it comes with the extra ``bench``."""
    return importlib.util.find_spec("flowlogs_reader") is not None


def flowlogs_reader(paths: Iterable[Path]) -> int:
    """Turn gzip text files into flowlogs-reader's objects, one a record; return how many. It does nothing more."""
    record = importlib.import_module("flowlogs_reader").FlowRecord
    records = 0
    for path in paths:
        with gzip.open(path, "rt") as text:  # as its own reader of S3 objects does
            lines = csv.DictReader(text, delimiter=" ")
            lines.fieldnames = [name.replace("-", "_") for name in lines.fieldnames or ()]
            for line in lines:
                try:
                    record(line)
                except ValueError:
                    continue
                records += 1
    return records
