"""The way of a flow log after its announcement: object refs in, everything durable, progress out."""

from __future__ import annotations

from typing import NamedTuple

import apache_beam as beam

from beam_flowlogs.config import JobConfig
from beam_flowlogs.transforms.process_objects import ProcessObjects
from beam_flowlogs.transforms.roll_up import RollUp


class Indexed(NamedTuple):
    """Progress by message token, ``PCollection[tuple[str, bytes]]``: of objects indexed, and of their parts merged."""

    objects: beam.PCollection
    rollups: beam.PCollection


class IndexFlowLogs(beam.PTransform):
    """Index objects, given as ``(message token, encoded ref)``: raw documents first, then their parts of roll-ups."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, objects: beam.PCollection) -> Indexed:
        """Wire the transform."""
        processed = objects | "ProcessObjects" >> ProcessObjects(self._config)
        return Indexed(processed.progress, processed.parts | "RollUp" >> RollUp(self._config))
