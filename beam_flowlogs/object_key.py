"""The key of a log file, as AWS makes it: what it tells, and where in a bucket the files of a time lie.

A file's slot is the five minutes that it was published for: the records in it *ended* in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from beam_flowlogs.times import TimeRange

SLOT = timedelta(minutes=5)
"""How long a slot is."""


class KeyParts(NamedTuple):
    """What a key tells of a log file; "" or None where it does not. ``slot`` is UTC, the publishing time's start."""

    account_id: str = ""
    region: str = ""
    flow_log_id: str = ""
    slot: datetime | None = None


class _Layout(NamedTuple):
    """How folders are named: those of an account and region, and below them those of a day, and maybe of an hour.

    ``after`` comes, in the order of keys, behind all days and before anything else that lies beside them.
    """

    region: re.Pattern[str]
    day: re.Pattern[str]
    day_format: str
    after: str


_ACCOUNT, _REGION = r"(?P<account>[0-9A-Za-z-]+)", r"(?P<region>[0-9a-z-]+)"
_FILE_NAME = re.compile(
    rf"{_ACCOUNT}_vpcflowlogs_{_REGION}_(?P<flow_log>fl-[0-9a-z]+)"
    r"_(?P<slot>[0-9]{8}T[0-9]{4}Z)_[^_/]+\.log\.(?:gz|parquet)",
)
_LAYOUTS = (
    _Layout(
        re.compile(rf"(?:^|/)AWSLogs/{_ACCOUNT}/vpcflowlogs/{_REGION}/"),
        re.compile(r"(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2}/)(?:(?P<hour>[0-9]{2})/)?"),
        "%Y/%m/%d/",
        ":",
    ),
    _Layout(
        re.compile(rf"(?:^|/)aws-account-id={_ACCOUNT}/aws-service=vpcflowlogs/aws-region={_REGION}/"),
        re.compile(r"(?P<day>year=[0-9]{4}/month=[0-9]{2}/day=[0-9]{2}/)(?:hour=(?P<hour>[0-9]{2})/)?"),
        "year=%Y/month=%m/day=%d/",
        "year=:",
    ),
)


def parse_key(key: str) -> KeyParts:
    """Return what a log file's key tells: from its file name, else (renamed files) account and region by its folders.

    VPC and transit gateway flow logs are named alike, in plain, hourly and Hive folders under any prefix.
    """
    name = _FILE_NAME.fullmatch(key.rpartition("/")[2])
    if name:
        return KeyParts(name["account"], name["region"], name["flow_log"], _time(name["slot"], "%Y%m%dT%H%MZ"))
    _, folder = _region_folder(key)
    return KeyParts(folder["account"], folder["region"]) if folder else KeyParts()


@dataclass(frozen=True)
class SlotRange:
    """The log files of a range of time, told by their keys; without bounds, every object whatever its key."""

    times: TimeRange = field(default_factory=TimeRange)

    def holds(self, key: str) -> bool | None:
        """Tell whether a file is of the range, by its slot or (renamed files) the day or hour of its folder.

        A slot, day or hour that the range only touches is in it. None: the key tells no time. What ``next_key``
        passes over is not of it, whatever its name says: else it would be taken where it happens to share a page.
        """
        if not self.times.is_bounded:
            return True
        layout, folder = _region_folder(key)
        if folder and self._further(layout, key[folder.end() :]):
            return False
        slot = parse_key(key).slot
        if slot is not None:
            return self.times.touches(slot, slot + SLOT)
        found = layout.day.match(key, folder.end()) if folder else None
        start = _time(found["day"], layout.day_format) if found else None
        if found is None or start is None:
            return None
        if found["hour"] is None:
            return self.times.touches(start, start + timedelta(days=1))
        start += timedelta(hours=int(found["hour"]))
        return self.times.touches(start, start + timedelta(hours=1))

    def next_key(self, key: str) -> str:
        """Return after which key a listing that has come to ``key`` (or begins with it, a prefix) finds more; "": here.

        It passes over the days of an account and region before and after the range. Not over hours: files of a flow log
        with hourly folders and those of one without may lie in the same day.
        """
        layout, folder = _region_folder(key)
        further = self._further(layout, key[folder.end() :]) if folder else ""
        return key[: folder.end()] + further if folder and further else ""

    def _further(self, layout: _Layout, rest: str) -> str:
        """Return after which key below an account and region a listing goes on that has come to ``rest``; "": there.

        All keys between the two have the same answer, so what is passed over hangs on nothing but a key.
        """
        if not layout.after[:-1] <= rest <= layout.after:  # beside all folders of days
            return ""
        if self.times.since and rest < (first := _day_folder(layout, self.times.since)):
            return first
        if self.times.until:
            last = _day_folder(layout, self.times.until - timedelta.resolution)
            if rest > last and not rest.startswith(last):
                return layout.after
        return ""


def _day_folder(layout: _Layout, time: datetime) -> str:
    return time.strftime(layout.day_format.replace("%Y", f"{time.year:04}"))  # which is not padded everywhere


def _region_folder(key: str) -> tuple[_Layout, re.Match[str] | None]:
    found = [(layout, folder) for layout in _LAYOUTS if (folder := layout.region.search(key))]
    # The outermost, as it is for all keys that begin alike.
    return min(found, key=lambda pair: pair[1].end()) if found else (_LAYOUTS[0], None)


def _time(text: str, form: str) -> datetime | None:
    try:
        time = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
        _ = time + timedelta(days=1)
    except (ValueError, OverflowError):  # a date that is in no calendar, or the last one, of which no end can be told
        return None
    return time
