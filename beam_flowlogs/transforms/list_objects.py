"""S3 prefixes in; the objects below them out, as if a message had announced them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_flowlogs.config import JobConfig
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.s3_object import ObjectRef, list_objects, parse_s3_url
from beam_flowlogs.transforms.announce import encode_ref
from beam_flowlogs.transforms.progress import NO_MESSAGE

SKIPPED = ("dead_letters_skipped", "undated_skipped")
"""Counters of objects that are left out."""


class ListObjects(beam.PTransform):
    """List the log files of ``slots`` below ``s3://bucket/prefix`` locations, as ``(NO_MESSAGE, encoded ref)``.

    Without bounds that is everything there. Skipped and counted are the job's own dead letters, and objects of which
    the key does not tell whether they are in bounds.
    """

    def __init__(self, urls: Sequence[str], config: JobConfig, slots: SlotRange | None = None) -> None:
        super().__init__()
        self._urls = [parse_s3_url(url) for url in urls]
        self._config = config
        self._slots = slots or SlotRange()

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the transform."""
        return (
            pbegin
            | "Prefixes" >> beam.Create(self._urls)
            | "List" >> beam.ParDo(_ListFn(self._config, self._slots)).with_output_types(tuple[str, bytes])
        )


class _ListFn(beam.DoFn):
    def __init__(self, config: JobConfig, slots: SlotRange) -> None:
        self._config = config
        self._slots = slots
        self._skipped = {name: Metrics.counter("flowlogs", name) for name in SKIPPED}

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, bytes]]:
        for ref in log_files(*element, self._config, self._slots, self._skip):
            yield NO_MESSAGE, encode_ref(ref)

    def _skip(self, why: str) -> None:
        self._skipped[why].inc()


def log_files(
    bucket: str, prefix: str, config: JobConfig, slots: SlotRange, skip: Callable[[str], None]
) -> Iterator[ObjectRef]:
    """Yield the log files of ``slots`` below a prefix; ``skip`` is told of each other object which of SKIPPED it is."""
    dead_letters = DeadLetters(config.dead_letters)
    for ref in list_objects(s3_client(), bucket, prefix, next_key=slots.next_key, retry_for=config.retry_for):
        if dead_letters.holds(ref):
            skip("dead_letters_skipped")
        elif not ref.key.endswith("/"):  # a folder's marker, as consoles make them
            wanted = slots.holds(ref.key)
            if wanted:
                yield ref
            elif wanted is None:
                skip("undated_skipped")
