"""Synthetic flow logs with a known truth: for demos, tests and benchmarks.

``generate`` makes a whole run; ``encode_text`` and ``encode_parquet`` write any records as a flow log file.
"""

from beam_flowlogs.generate.config import (
    ALL_INCIDENTS,
    Compression,
    FileType,
    GeneratorConfig,
    Incident,
    KeyLayout,
    default_start,
    parse_start,
)
from beam_flowlogs.generate.encode import encode_parquet, encode_text
from beam_flowlogs.generate.run import generate
from beam_flowlogs.generate.sink import FolderSink, S3Sink, Sink, UploadError
from beam_flowlogs.generate.truth import Truth

__all__ = [
    "ALL_INCIDENTS",
    "Compression",
    "FileType",
    "FolderSink",
    "GeneratorConfig",
    "Incident",
    "KeyLayout",
    "S3Sink",
    "Sink",
    "Truth",
    "UploadError",
    "default_start",
    "encode_parquet",
    "encode_text",
    "generate",
    "parse_start",
]
