"""Everything that a runner is told of a pipeline, as text: what it may show to anybody who opens its pages."""

from __future__ import annotations

import base64
import binascii
import bz2
import re
import zlib
from collections.abc import Callable

import apache_beam as beam

_PACKED = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_UNPACK: tuple[tuple[Callable[[bytes], bytes], type[Exception]], ...] = (
    (bz2.decompress, OSError),
    (zlib.decompress, zlib.error),
)


def graph_text(pipeline: beam.Pipeline) -> str:
    """The pipeline's graph, with the steps that Beam has pickled and packed in it laid open."""
    graph: bytes = pipeline.to_runner_api().SerializeToString()
    return b"\n".join([graph, *_opened(graph)]).decode("latin-1")


def _opened(graph: bytes) -> list[bytes]:
    found = []
    for packed in _PACKED.findall(graph):
        for unpack, error in _UNPACK:
            try:
                found.append(unpack(base64.b64decode(packed)))
            except (error, binascii.Error, EOFError):
                continue
    return found
