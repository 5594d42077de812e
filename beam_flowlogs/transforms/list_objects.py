"""S3 prefixes in; the objects below them out, as if a message had announced them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_flowlogs.config import JobConfig
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.s3_object import list_objects, parse_s3_url
from beam_flowlogs.transforms.announce import encode_ref
from beam_flowlogs.transforms.progress import NO_MESSAGE


class ListObjects(beam.PTransform):
    """List everything below ``s3://bucket/prefix`` locations, as ``(NO_MESSAGE, encoded ref)``.

    The job's own dead letters are skipped, and counted as that.
    """

    def __init__(self, urls: Sequence[str], config: JobConfig) -> None:
        super().__init__()
        self._urls = [parse_s3_url(url) for url in urls]
        self._config = config

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the transform."""
        return (
            pbegin
            | "Prefixes" >> beam.Create(self._urls)
            | "List" >> beam.ParDo(_ListFn(self._config)).with_output_types(tuple[str, bytes])
        )


class _ListFn(beam.DoFn):
    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._skipped = Metrics.counter("flowlogs", "dead_letters_skipped")

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, bytes]]:
        bucket, prefix = element
        dead_letters = DeadLetters(self._config.dead_letters)
        for ref in list_objects(s3_client(), bucket, prefix, retry_for=self._config.retry_for):
            if dead_letters.holds(ref):
                self._skipped.inc()
            elif not ref.key.endswith("/"):  # a folder's marker, as consoles make them
                yield NO_MESSAGE, encode_ref(ref)
