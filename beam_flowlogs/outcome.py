"""What a job did: counts by fate, and what it set aside and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class SetAside:
    """Rejects of one stage and reason: how many, the detail of one of them, and some of the buckets concerned."""

    stage: str
    reason: str
    count: int
    example: str = ""
    buckets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a job did, from its counters: messages, objects, documents and roll-ups by fate; and what it set aside."""

    messages_received: int = 0
    messages_redelivered: int = 0
    messages_rejected: int = 0
    messages_deleted: int = 0
    messages_expired: int = 0
    objects: int = 0
    objects_rejected: int = 0
    documents: int = 0
    duplicates: int = 0
    rejects: int = 0
    retries: int = 0
    bulk_bytes: int = 0
    rollups_created: int = 0
    rollups_updated: int = 0
    rollups_unchanged: int = 0
    rollups_overtaken: int = 0
    rollups_rejected: int = 0
    alerts_opened: int = 0
    alerts_closed: int = 0
    dead_letters_replayed: int = 0
    dead_letters_kept: int = 0
    dead_letters_skipped: int = 0
    undated_skipped: int = 0
    set_aside: tuple[SetAside, ...] = ()

    @property
    def has_rejects(self) -> bool:
        """Whether anything is in the dead letters that this job put or left there."""
        left = (self.messages_rejected, self.objects_rejected, self.rejects, self.rollups_rejected)
        return bool(self.set_aside or any(left) or self.dead_letters_kept)

    def plus(self, other: Outcome) -> Outcome:
        """Return both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Outcome(**counts, set_aside=_merged((*self.set_aside, *other.set_aside)))


COUNTS = tuple(field.name for field in fields(Outcome) if field.name != "set_aside")
"""The names of the counts."""


def _merged(groups: Iterable[SetAside]) -> tuple[SetAside, ...]:
    found: dict[tuple[str, str], SetAside] = {}
    for group in groups:
        known = found.get((group.stage, group.reason), replace(group, count=0))
        found[group.stage, group.reason] = replace(
            known,
            count=known.count + group.count,
            example=known.example or group.example,
            buckets=tuple(sorted({*known.buckets, *group.buckets})),
        )
    return tuple(sorted(found.values(), key=lambda group: (-group.count, group.stage, group.reason)))
