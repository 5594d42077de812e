"""Times that a person gives, such as ``2026-01-31``, ``now-1h/m`` or ``2d``: text in, UTC out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_MONDAY = datetime(1970, 1, 5, tzinfo=timezone.utc)
"""What rounding counts from: the beginning of a week, and so of all that is shorter."""

_STEP = r"([+-])(\d{1,6})([smhdw])"
_FROM_NOW = re.compile(rf"now((?:{_STEP})*)(?:/([smhdw]))?", re.ASCII)
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_ISO = re.compile(
    r"\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{3}(?:\d{3})?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?", re.ASCII
)


@dataclass(frozen=True)
class TimeRange:
    """UTC times from ``since`` to before ``until``; None: no bound. Raises ValueError where none can lie between."""

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(
                f"--since ({self.since.isoformat()}) is not before --until ({self.until.isoformat()}): "
                "nothing lies between"
            )

    @property
    def is_bounded(self) -> bool:
        """Whether there is a time that is not in it."""
        return self.since is not None or self.until is not None

    def touches(self, start: datetime, end: datetime) -> bool:
        """Tell whether anything from ``start`` to before ``end`` lies in it."""
        return (self.since is None or end > self.since) and (self.until is None or start < self.until)


def parse_range(since: str, until: str, now: datetime) -> TimeRange:
    """Return the range between two times as ``parse_time`` takes them; "": no bound. Raises ValueError."""
    return TimeRange(parse_time(since, now) if since else None, parse_time(until, now) if until else None)


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that is meant, in UTC unless it says another zone.

    ISO 8601 as a day or a time; ``now``, with ``-1h`` or ``+1d`` and rounded down to a unit by ``/h``, as Elasticsearch
    writes it; ``2d`` is ``now-2d``. Units: s, m, h, d, w. Raises ValueError.
    """
    try:
        return _relative(text, now) or _absolute(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time: write a day or a time such as 2026-01-31 or 2026-01-31T12:00:00Z, "
            "or one that is relative to now: 2d, now-1h/m"
        ) from error


def _relative(text: str, now: datetime) -> datetime | None:
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    found = _FROM_NOW.fullmatch(text)
    if not found:
        return None
    time = now
    for sign, count, unit in re.findall(_STEP, found[1]):
        time += int(f"{sign}{count}") * _UNITS[unit]
    return time - (time - _MONDAY) % _UNITS[found[5]] if found[5] else time


def _absolute(text: str) -> datetime:
    found = _ISO.fullmatch(text)
    if not found:
        raise ValueError(text)
    time = datetime.fromisoformat(f"{text}-01" if len(text) == len("2026-01") else text.replace("Z", "+00:00"))
    return time.astimezone(timezone.utc) if found["zone"] else time.replace(tzinfo=timezone.utc)
