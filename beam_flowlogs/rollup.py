"""Per-interface roll-ups: rows in, one small part for each interface and window out; parts in, a document out.

A roll-up is the union, by object, of the parts that objects contributed. Merging a part that is there replaces it by
itself, so any order, any grouping and any number of times gives the same document (docs/architecture.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.document import Origin
from beam_flowlogs.rows import Rows, milliseconds

ROLLUP_INDEX_PREFIX = "flowlogs-rollup-"

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DAY_S = 86_400

KEY_COLUMNS: Mapping[str, str] = {
    "interface": "interface_id",
    "resource": "resource_id",
    "tgw_attachment": "tgw_attachment_id",
}
"""What a record is counted under, by the first of these columns that it has a value in; else its flow log."""

DIMENSIONS: Mapping[str, str] = {
    "account_id": "cloud.account.id",
    "region": "cloud.region",
    "vpc_id": "aws.vpcflow.vpc_id",
    "subnet_id": "aws.vpcflow.subnet_id",
    "instance_id": "cloud.instance.id",
}
"""What is said of a roll-up's key, by column, and where its document says it."""

_SUMS = ("flows", "bytes", "packets")
_CLASSES = ("accepted", "rejected", "ingress", "egress")

COUNTERS: tuple[str, ...] = (
    *_SUMS,
    *(f"{group}.{name}" for group in _CLASSES for name in _SUMS),
    "nodata",
    "skipdata",
)
"""The order of a part's counters; new ones go to the end, since parts are stored for as long as their roll-ups."""

_COMPACT_ROWS = 50_000


def parse_window(text: str) -> int:
    """Return the seconds of a window such as ``60s``, ``5m`` or ``1h``.

    Raises ValueError if it does not divide a day.
    """
    match = re.fullmatch(r"(\d{1,6})([smh])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not seconds or _DAY_S % seconds:
        raise ValueError(f"{text!r} is no roll-up window: give a length that divides a day, such as 60s, 5m or 1h")
    return seconds


class RollUpKey(NamedTuple):
    """What one roll-up document is about: a window (seconds long, from ``start`` in Unix seconds) of one key."""

    window_s: int
    start: int
    key_type: str
    key: str

    @property
    def id(self) -> str:
        """The document's id: a retry overwrites."""
        return f"{self.window_s}s-{self.start}-{self.key}"

    @property
    def index_name(self) -> str:
        """The index of the window's month."""
        return f"{ROLLUP_INDEX_PREFIX}{datetime.fromtimestamp(self.start, timezone.utc):%Y.%m}"


class Part(NamedTuple):
    """What one object contributes to a roll-up. ``counters`` are in the order of COUNTERS, times in Unix ms."""

    object_id: str
    counters: tuple[int, ...]
    first_seen: int
    last_seen: int
    dimensions: Mapping[str, str]


class PartsOfObject:
    """Collects an object's rows, batch by batch, into its parts; memory is bounded by its interfaces and windows."""

    def __init__(self, origin: Origin, window_s: int, flow_log_id: str = "") -> None:
        self._origin = origin
        self._window_s = window_s
        self._fallback = flow_log_id or "unknown"
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    def add(self, rows: Rows) -> None:
        """Count rows in."""
        if not rows.batch.num_rows:
            return
        self._push(_grouped(self._table(rows)))

    def finish(self) -> list[tuple[RollUpKey, Part]]:
        """Return the object's parts, each with the roll-up that it belongs to."""
        if not self._pending:
            return []
        folded: dict[RollUpKey, _Fold] = {}
        for group in _grouped(pa.concat_tables(self._pending)).to_pylist():
            key = RollUpKey(self._window_s, group["window"], group["key_type"], group["key"])
            folded.setdefault(key, _Fold()).add(group)
        return [(key, fold.part(self._origin)) for key, fold in folded.items()]

    def _push(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._pending_rows += table.num_rows
        if self._pending_rows > _COMPACT_ROWS:
            self._pending = [_grouped(pa.concat_tables(self._pending))]
            self._pending_rows = self._pending[0].num_rows // 2  # else many keys would be grouped anew each time

    def _table(self, rows: Rows) -> pa.Table:
        columns = dict(zip(rows.batch.schema.names, rows.batch.columns))
        size = rows.batch.num_rows
        missing = pa.nulls(size, pa.string())
        times = pa.array(rows.times)
        keys = [(key_type, columns[name]) for key_type, name in KEY_COLUMNS.items() if name in columns]
        key_type = pa.nulls(size, pa.string())
        for name, column in keys:
            if key_type.null_count:
                key_type = pc.coalesce(key_type, pc.if_else(pc.is_valid(column), name, missing))
        status = columns.get("log_status")
        window = rows.times // (1000 * self._window_s) * self._window_s
        return pa.table(
            {
                "key": pc.fill_null(pc.coalesce(*(column for _, column in keys), missing), self._fallback),
                "key_type": pc.fill_null(key_type, "flow_log"),
                "window": window,
                "status": missing if status is None else status,
                "action": columns.get("action", missing),
                "direction": columns.get("flow_direction", missing),
                "records": np.ones(size, np.int64),
                "bytes": columns.get("bytes", pa.nulls(size, pa.int64())),
                "packets": columns.get("packets", pa.nulls(size, pa.int64())),
                "first_seen": pc.coalesce(milliseconds(columns["start"]), times) if "start" in columns else times,
                "last_seen": times,
                **{name: columns.get(name, missing) for name in DIMENSIONS},
            }
        )


_GROUP_BY = ["key", "key_type", "window", "status", "action", "direction"]
_AGGREGATES = [("records", "sum"), ("bytes", "sum"), ("packets", "sum"), ("first_seen", "min"), ("last_seen", "max")]
_AGGREGATES += [(name, "max") for name in DIMENSIONS]
_AGGREGATED = _GROUP_BY + [name for name, _ in _AGGREGATES]


def _grouped(table: pa.Table) -> pa.Table:
    grouped = table.group_by(_GROUP_BY, use_threads=False).aggregate(_AGGREGATES)
    return grouped.select(_GROUP_BY + [f"{name}_{how}" for name, how in _AGGREGATES]).rename_columns(_AGGREGATED)


class _Fold:
    """Adds up the groups of one roll-up within one object."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.first_seen: int | None = None
        self.last_seen = 0
        self.dimensions: dict[str, str] = {}

    def add(self, group: Mapping[str, Any]) -> None:
        status = group["status"]
        if status in ("NODATA", "SKIPDATA"):
            self.counters[status.lower()] += group["records"]
        else:
            self._add_traffic("", group)
            action = {"ACCEPT": "accepted.", "REJECT": "rejected."}.get(group["action"])
            if action:
                self._add_traffic(action, group)
            if group["direction"] in ("ingress", "egress"):
                self._add_traffic(group["direction"] + ".", group)
        first = group["first_seen"]
        self.first_seen = first if self.first_seen is None else min(self.first_seen, first)
        self.last_seen = max(self.last_seen, group["last_seen"])
        for name in DIMENSIONS:
            self.dimensions[name] = max(self.dimensions.get(name, ""), group[name] or "")

    def _add_traffic(self, prefix: str, group: Mapping[str, Any]) -> None:
        self.counters[f"{prefix}flows"] += group["records"]
        self.counters[f"{prefix}bytes"] += group["bytes"] or 0
        self.counters[f"{prefix}packets"] += group["packets"] or 0

    def part(self, origin: Origin) -> Part:
        known = dict(self.dimensions)
        if known["account_id"] in ("", "unknown"):
            known["account_id"] = origin.account_id
        known["region"] = known["region"] or origin.region
        dimensions = {name: value for name, value in known.items() if value}
        assert self.first_seen is not None
        return Part(origin.object_id, tuple(self.counters.values()), self.first_seen, self.last_seen, dimensions)


def encode_part(part: Part) -> bytes:
    """Return a part as the bytes that cross a shuffle."""
    return orjson.dumps([part.object_id, part.counters, part.first_seen, part.last_seen, part.dimensions])


def decode_part(data: bytes) -> Part:
    """Return the part that ``encode_part`` made the bytes of."""
    object_id, counters, first_seen, last_seen, dimensions = orjson.loads(data)
    return Part(object_id, tuple(counters), first_seen, last_seen, dimensions)


def merge(key: RollUpKey, stored: Mapping[str, Any] | None, parts: Iterable[Part]) -> dict[str, Any] | None:
    """Return the roll-up document that holds the stored one's parts and these; None where that changes nothing.

    ``stored`` is the ``_source`` of the document as read, None when there is none yet.
    """
    rollup = stored["flowlogs"]["rollup"] if stored else {}
    known: dict[str, list[int]] = dict(rollup.get("parts", {}))
    dimensions = {name: _at(stored, path) for name, path in DIMENSIONS.items()} if stored else {}
    before = (dict(known), dict(dimensions))
    for part in parts:
        known[part.object_id] = [*part.counters, part.first_seen, part.last_seen]
        for name, value in part.dimensions.items():
            dimensions[name] = max(dimensions.get(name) or "", value)
    if stored and (known, dimensions) == before:
        return None
    return _document(key, known, {name: value for name, value in dimensions.items() if value})


def _document(key: RollUpKey, parts: Mapping[str, list[int]], dimensions: Mapping[str, str]) -> dict[str, Any]:
    width = len(COUNTERS)
    # A part that an earlier version stored has fewer counters: what it did not count is 0.
    rows = [row[:-2] + [0] * (width + 2 - len(row)) for row in parts.values()]
    rollup: dict[str, Any] = {"window": f"{key.window_s}s", "key_type": key.key_type, "key": key.key}
    for name, total in zip(COUNTERS, map(sum, zip(*rows))):
        _put(rollup, name, total)
    rollup["complete"] = rollup["skipdata"] == 0
    rollup["objects"] = len(parts)
    rollup["first_seen"] = _iso(min(row[-2] for row in parts.values()))
    rollup["last_seen"] = _iso(max(row[-1] for row in parts.values()))
    rollup["parts"] = dict(sorted(parts.items()))
    start, end = _iso(key.start * 1000), _iso((key.start + key.window_s) * 1000)
    document: dict[str, Any] = {
        "@timestamp": start,
        "event": {"kind": "metric", "start": start, "end": end},
        "flowlogs": {"rollup": rollup},
    }
    for name, value in dimensions.items():
        _put(document, DIMENSIONS[name], value)
    if key.key_type == "interface":
        _put(document, "aws.vpcflow.interface_id", key.key)
    return document


def _iso(milliseconds_: int) -> str:
    time = datetime.fromtimestamp(milliseconds_ / 1000, timezone.utc)
    return time.isoformat(timespec="milliseconds" if milliseconds_ % 1000 else "seconds").replace("+00:00", "Z")


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _at(tree: Mapping[str, Any] | None, path: str) -> Any:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree
