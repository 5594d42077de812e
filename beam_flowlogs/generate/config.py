"""What to generate: sizes, format, file type, key layout, incidents and seed, checked once, here."""

from __future__ import annotations

import calendar
import time
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from beam_flowlogs.fields import BY_COLUMN, TRANSIT_GATEWAY_FORMAT, vpc_format

SLOT_SECONDS = 300
"""Seconds of records in one delivery slot: AWS publishes a file about every five minutes."""


class FileType(str, Enum):
    """Type of the files."""

    TEXT = "text"
    PARQUET = "parquet"


class KeyLayout(str, Enum):
    """Layout of the object keys; ``hourly`` kinds have a folder per hour."""

    PLAIN = "plain"
    HOURLY = "hourly"
    HIVE = "hive"
    HIVE_HOURLY = "hive-hourly"


class Compression(str, Enum):
    """Compression inside Parquet files."""

    GZIP = "gzip"
    SNAPPY = "snappy"


class Incident(str, Enum):
    """Something worth finding in the data."""

    PORT_SCAN = "port-scan"
    PEER_STOPS = "peer-stops"
    REJECT_BURST = "reject-burst"
    SKIPDATA = "skipdata"
    SILENT_INTERFACE = "silent-interface"
    BYTES_SPIKE = "bytes-spike"


ALL_INCIDENTS = tuple(Incident)


@dataclass(frozen=True)
class GeneratorConfig:
    """Arguments of one run. The same arguments give the same bytes, on any machine with the same libraries.

    ``records`` is exact. ``start`` (Unix seconds, a multiple of 300) is the first slot's start. ``names`` are the
    field names of the format, as in a text header. ``incidents`` are those to show; ``fitting_incidents`` leaves out
    those that the arguments have no room for. Raises ValueError for arguments that cannot be met.
    """

    start: int
    records: int = 200_000
    accounts: int = 3
    regions: int = 2
    interfaces: int = 60
    slots: int = 6
    objects_per_slot: int = 1
    aggregation: int = 60
    names: tuple[str, ...] = vpc_format(2)
    tgw: bool = False
    file: FileType = FileType.TEXT
    compression: Compression = Compression.GZIP
    keys: KeyLayout = KeyLayout.PLAIN
    prefix: str = ""
    incidents: tuple[Incident, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("records", "accounts", "regions", "interfaces", "slots", "objects_per_slot"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use 1 or more")
        if self.regions > len(REGIONS):
            raise ValueError(f"regions is {self.regions}: the generator knows {len(REGIONS)}")
        if self.accounts > 1000:
            raise ValueError(f"accounts is {self.accounts}: use 1 to 1000")
        if not self.streams <= self.interfaces <= 100_000:
            raise ValueError(
                f"interfaces is {self.interfaces}: use {self.streams} (one for each account and region) to 100000"
            )
        if self.aggregation not in (60, 600):
            raise ValueError(f"aggregation is {self.aggregation}: AWS aggregates over 60 or 600 seconds")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: use 0 or more")
        if self.start < 86_400 or self.start % SLOT_SECONDS:
            raise ValueError(f"start is {self.start}: use Unix seconds that are a multiple of {SLOT_SECONDS}")
        self._check_names()
        for incident in self.incidents:
            obstacle = self._obstacle(incident)
            if obstacle:
                raise ValueError(f"incident {incident.value} {obstacle}; leave it out or change that")

    def _check_names(self) -> None:
        if not self.names:
            raise ValueError("the format has no fields: name at least one, such as 'interface-id bytes end'")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(f"the format names {repeated[0]} twice: name each field once")
        offered = TRANSIT_GATEWAY_FORMAT if self.tgw else vpc_format(11)
        for name in self.names:
            if name not in offered:
                kind = "transit gateway" if self.tgw else "VPC"
                raise ValueError(f"{name!r} is no field of {kind} flow logs; fields are: {' '.join(offered)}")

    @property
    def streams(self) -> int:
        """How many pairs of account and region there are; each has its own flow log."""
        return self.accounts * self.regions

    @property
    def version(self) -> int:
        """The value of the field ``version``: the highest version among the format's fields."""
        return max(BY_COLUMN[name.replace("-", "_")].version for name in self.names)

    def logs(self, name: str) -> bool:
        """Return whether the format has the field ``name``."""
        return name in self.names

    def _obstacle(self, incident: Incident) -> str:
        """Return why ``incident`` cannot be shown with these arguments; "" if it can."""
        if incident in (Incident.SKIPDATA, Incident.SILENT_INTERFACE) and not self.logs("log-status"):
            return "needs the field log-status in the format"
        if self.records < 1000:
            return "needs 1000 records or more"
        if incident is Incident.SILENT_INTERFACE and self.slots < 2:
            return "needs 2 slots or more"
        if incident is Incident.SILENT_INTERFACE and self.interfaces < 2 * self.streams:
            return "needs 2 interfaces or more for each account and region"
        return ""

    def fitting_incidents(self) -> tuple[Incident, ...]:
        """Return every incident that can be shown with these arguments."""
        return tuple(incident for incident in Incident if not self._obstacle(incident))

    def as_json(self) -> dict[str, Any]:
        """Return the arguments as plain values."""
        return asdict(self) | {"names": " ".join(self.names), "incidents": [i.value for i in self.incidents]}


REGIONS = (
    "eu-west-1", "us-east-1", "eu-central-1", "us-west-2", "ap-southeast-2", "ap-northeast-1", "ca-central-1",
    "sa-east-1", "eu-north-1", "ap-south-1",
)  # fmt: skip


def default_start(slots: int, now: float | None = None) -> int:
    """Return the start, in Unix seconds, that lets ``slots`` slots end at the last full slot before ``now``."""
    seconds = int(time.time() if now is None else now)
    return seconds - seconds % SLOT_SECONDS - slots * SLOT_SECONDS


def parse_start(text: str) -> int:
    """Return the Unix seconds of ``text``: a UTC time such as 2026-01-31T12:05Z, or Unix seconds. Raises ValueError."""
    if text.isdecimal():
        return int(text)
    for layout in ("%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"):
        try:
            return calendar.timegm(time.strptime(text, layout))
        except ValueError:
            continue
    raise ValueError(f"start {text!r} is no time: write UTC such as 2026-01-31T12:05Z, or Unix seconds")
