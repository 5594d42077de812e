"""What a job is told, as frozen values that travel to the workers. Secrets are named here, never held."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_rules import OF_DETAILS
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.inflate import Limits
from beam_flowlogs.rollup import check_windows
from beam_flowlogs.rollup_details import MOST_CONVERSATIONS

DEFAULT_LATENESS_S = 7200


@dataclass(frozen=True)
class JobConfig:
    """Everything that the way of a flow log depends on.

    ``dead_letters`` is a folder or ``s3://bucket/prefix``; ``buckets`` are the patterns (``*``, ``?``) of the buckets
    that may be read; ``names`` are the fields of text objects that have no header line; ``retry_for`` is how many
    seconds S3 and SQS may be out of reach before the job fails (None: for ever).

    ``windows`` are the lengths of the roll-ups in seconds, the shortest first; ``rollup_details`` asks for their
    distinct counts and top lists, ``conversations`` for so many of the biggest of each. In an endless job a roll-up is
    grouped in its window until ``lateness_s`` after its end; parts that come later are merged on their own.

    ``alerts`` is what is watched for, and who is told.
    """

    elasticsearch: ElasticsearchConfig
    dead_letters: str
    buckets: tuple[str, ...]
    windows: tuple[int, ...] = (60,)
    rollup_details: bool = False
    conversations: int = 0
    lateness_s: int = DEFAULT_LATENESS_S
    alerts: AlertConfig = field(default_factory=AlertConfig)
    names: tuple[str, ...] = ()
    retry_for: float | None = None
    limits: Limits = field(default_factory=Limits)
    bulk: BulkConfig = field(default_factory=BulkConfig)

    def __post_init__(self) -> None:
        if not self.buckets:
            raise ValueError("no bucket may be read: name those that hold your flow logs with --bucket (* is allowed)")
        check_windows(self.windows)
        if not 0 <= self.conversations <= MOST_CONVERSATIONS:
            raise ValueError(
                f"{self.conversations} conversations of each roll-up are too many: use 0 to {MOST_CONVERSATIONS}"
            )
        blind = [rule.name for rule in self.alerts.rules if rule.kind in OF_DETAILS]
        if blind and not self.rollup_details:
            raise ValueError(f"the alert rule {blind[0]} looks at what only --rollup-details counts: give that too")
        if self.lateness_s < self.windows[-1]:
            raise ValueError(
                f"the allowed lateness of {self.lateness_s} s is shorter than a window of {self.windows[-1]} s: "
                "allow at least the longest window (--allowed-lateness)"
            )

    def allows(self, bucket: str) -> bool:
        """Tell whether objects of ``bucket`` may be read."""
        return any(fnmatchcase(bucket, pattern) for pattern in self.buckets)
