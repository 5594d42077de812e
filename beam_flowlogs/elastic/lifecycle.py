"""How long data is kept: the age at which an index goes, as a policy for servers that have lifecycle management."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WARM_AFTER_DAYS = 2
"""Late objects are common for hours and rare after a day: by then an index is read, not written."""


@dataclass(frozen=True)
class Retention:
    """Days after which a day's raw documents, and a month's roll-ups, are deleted."""

    raw_days: int = 30
    rollup_days: int = 400

    def __post_init__(self) -> None:
        for what, days in (("raw documents", self.raw_days), ("roll-ups", self.rollup_days)):
            if days < 1:
                raise ValueError(f"{what} cannot be kept {days} days: keep 1 day or more")


def parse_days(text: str) -> int:
    """Return the days of an age such as ``30d``. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,5})d", text)
    if not match:
        raise ValueError(f"{text!r} is no age: write whole days, such as 30d")
    return int(match[1])


def policies(retention: Retention) -> Mapping[str, dict[str, Any]]:
    """Return the lifecycle policies by name, as ``PUT _ilm/policy`` takes them.

    Their ages count from an index's creation, so that what a backfill brings back stays as long as what is new.
    No policy makes an index read-only (so none merges it either): a late object must still find it open.
    """
    # A period's index is created at its beginning: its last record is a day, or a month, younger.
    return {
        "flowlogs-raw": _policy(retention.raw_days + 1),
        "flowlogs-rollup": _policy(retention.rollup_days + 31),
    }


def _policy(delete_after_days: int) -> dict[str, Any]:
    phases: dict[str, Any] = {"hot": {"min_age": "0ms", "actions": {"set_priority": {"priority": 100}}}}
    if delete_after_days > _WARM_AFTER_DAYS:
        phases["warm"] = {"min_age": f"{_WARM_AFTER_DAYS}d", "actions": {"set_priority": {"priority": 50}}}
    phases["delete"] = {"min_age": f"{delete_after_days}d", "actions": {"delete": {"delete_searchable_snapshot": True}}}
    return {"phases": phases, "_meta": {"managed_by": "beam-flowlogs"}}
