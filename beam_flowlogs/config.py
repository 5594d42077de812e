"""What a job is told, as frozen values that travel to the workers. Secrets are named here, never held."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.inflate import Limits


@dataclass(frozen=True)
class JobConfig:
    """Everything that the way of a flow log depends on.

    ``dead_letters`` is a folder or ``s3://bucket/prefix``; ``buckets`` are the patterns (``*``, ``?``) of the buckets
    that may be read; ``names`` are the fields of text objects that have no header line; ``retry_for`` is how many
    seconds S3 and SQS may be out of reach before the job fails (None: for ever).
    """

    elasticsearch: ElasticsearchConfig
    dead_letters: str
    buckets: tuple[str, ...]
    window_s: int = 60
    names: tuple[str, ...] = ()
    retry_for: float | None = None
    limits: Limits = field(default_factory=Limits)
    bulk: BulkConfig = field(default_factory=BulkConfig)

    def __post_init__(self) -> None:
        if not self.buckets:
            raise ValueError("no bucket may be read: name those that hold your flow logs with --bucket (* is allowed)")

    def allows(self, bucket: str) -> bool:
        """Tell whether objects of ``bucket`` may be read."""
        return any(fnmatchcase(bucket, pattern) for pattern in self.buckets)
