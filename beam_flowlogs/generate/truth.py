"""The truth about generated data: exact totals by interface and minute, taken from the arrays that were written.

It shares no code with the roll-ups of the pipeline, so that the two can prove each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from beam_flowlogs.generate.config import GeneratorConfig
from beam_flowlogs.generate.rows import NODATA, OK, SKIPDATA, STATUSES, Rows
from beam_flowlogs.generate.world import World

WINDOW = 60
"""Seconds of a window."""

_SIDES = ("accepted", "rejected", "ingress", "egress")
_MEASURES = ("flows", "bytes", "packets")
_SUMS = (*_MEASURES, "nodata", "skipdata", *(f"{side}.{measure}" for side in _SIDES for measure in _MEASURES))


@dataclass(frozen=True)
class Truth:
    """What a run wrote. ``rollups`` has one entry for each key and window that has records, ordered by both.

    A key is an interface, a resource or a transit gateway attachment; the flow log, if the format names none of them.
    """

    arguments: dict[str, Any]
    objects: list[dict[str, Any]]
    records: int
    by_status: dict[str, int]
    rollups: list[dict[str, Any]]
    incidents: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the content of truth.json."""
        return {
            "arguments": self.arguments,
            "records": self.records,
            "by_status": self.by_status,
            "incidents": self.incidents,
            "objects": self.objects,
            "rollups": {f"{WINDOW}s": self.rollups},
        }

    def write(self, path: Path) -> None:
        """Write truth.json to ``path``, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2))
        partial.replace(path)


class Tally:
    """Adds rows up, in memory that grows with keys and windows, not with rows.

    It counts what the format tells: without ``action`` nothing is accepted or rejected, without ``flow-direction``
    nothing goes in or out, without ``bytes`` there are none. Only OK records count as flows. A record's time is
    its ``end``; without that field its ``start``, without both its slot.
    """

    def __init__(self, config: GeneratorConfig, world: World) -> None:
        self.config = config
        keys = [world.key_of(point, config.names) for point in range(len(world.roles))]
        self.keys = sorted(set(keys))
        numbers = {key: number for number, key in enumerate(self.keys)}
        self.key_of_point = np.array([numbers[key] for key in keys])
        self.slot_start = config.start
        self.slot: list[pa.Table] = []
        self.past: list[pa.Table] = []

    def add(self, rows: Rows, slot_start: int) -> None:
        """Count ``rows``, which were written to an object of the slot; slots come in order."""
        if slot_start != self.slot_start and self.slot:
            # Nothing but a start can fall into a past slot's windows any more.
            self.past.append(_merged(self.slot))
            self.slot = []
        self.slot_start = slot_start
        logs = self.config.logs
        time = next((rows[name] for name in ("end", "start") if logs(name)), np.full(len(rows), slot_start))
        ok = rows["status"] == OK
        zero = np.zeros(len(rows), dtype=np.int64)
        totals = {
            "flows": ok.astype(np.int64),
            "bytes": np.where(ok, rows["bytes"], 0) if logs("bytes") else zero,
            "packets": np.where(ok, rows["packets"], 0) if logs("packets") else zero,
        }
        shares = {
            "accepted": rows["accept"] & logs("action"),
            "rejected": ~rows["accept"] & logs("action"),
            "ingress": ~rows["egress"] & logs("flow-direction"),
            "egress": rows["egress"] & logs("flow-direction"),
        }
        columns = {
            "key": self.key_of_point[rows["point"]],
            "window": time // WINDOW * WINDOW,
            "first_seen": rows["start"] if logs("start") else time,
            "last_seen": time,
            "nodata": (rows["status"] == NODATA).astype(np.int64),
            "skipdata": (rows["status"] == SKIPDATA).astype(np.int64),
            **totals,
            **{f"{side}.{name}": np.where(share, totals[name], 0) for side, share in shares.items() for name in totals},
        }
        table = pa.table({name: np.ascontiguousarray(values) for name, values in columns.items()})
        self.slot.append(_merged([table]))

    def truth(self, objects: list[dict[str, Any]], incidents: list[dict[str, Any]]) -> Truth:
        """Return the truth about everything that was added."""
        merged = _merged([*self.past, *self.slot]).sort_by([("key", "ascending"), ("window", "ascending")])
        return Truth(
            arguments=self.config.as_json(),
            objects=objects,
            records=sum(entry["records"] for entry in objects),
            by_status={name: sum(entry["by_status"][name] for entry in objects) for name in STATUSES},
            rollups=[self._entry(row) for row in merged.to_pylist()],
            incidents=incidents,
        )

    def _entry(self, row: dict[str, int]) -> dict[str, Any]:
        key_type, key = self.keys[row["key"]]
        return {
            "key_type": key_type,
            "key": key,
            "window_start": row["window"],
            **{name: row[name] for name in _MEASURES},
            **{side: {name: row[f"{side}.{name}"] for name in _MEASURES} for side in _SIDES},
            "nodata": row["nodata"],
            "skipdata": row["skipdata"],
            "first_seen": row["first_seen"],
            "last_seen": row["last_seen"],
        }


def _merged(tables: list[pa.Table]) -> pa.Table:
    """Return one row for each key and window of ``tables``, which have the same columns."""
    keys = ["key", "window"]
    measures = [(name, "sum") for name in _SUMS] + [("first_seen", "min"), ("last_seen", "max")]
    table = pa.concat_tables(tables)
    merged = table.group_by(keys, use_threads=False).aggregate(measures)
    return merged.rename_columns({f"{name}_{how}": name for name, how in measures})
