"""What a roll-up tells beyond sums: how many different addresses and ports, and the biggest few of several kinds.

``DISTINCT`` and ``TOP`` say what there is; the mapping and the docs derive from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.distinct import COUPON_BITS, U64, coupons, encode, estimate_union, estimates, scramble, union
from beam_flowlogs.rows import Rows
from beam_flowlogs.top_list import TopList, add_up, as_objects

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Columns = Mapping[str, pa.Array]

DISTINCT: Mapping[str, str] = {
    "addresses": "different addresses on either side of its flows, its own included",
    "destination_ports": "different destination ports of its flows, those of replies to clients included",
    "rejected_ports": "different destination ports of its rejected flows",
}
"""Distinct counts, by name: estimates with a standard error of 3.3 %."""


class Top(NamedTuple):
    """A list of the biggest: what an entry is named by, its numbers, and which of those objects do not add up."""

    labels: tuple[str, ...]
    values: tuple[str, ...]
    meaning: str
    largest: tuple[int, ...] = ()


TOP: Mapping[str, Top] = {
    "talkers": Top(("source", "destination"), ("bytes", "flows"), "pairs of addresses with the most bytes"),
    "rejected_sources": Top(
        ("address",), ("flows", "ports"), "sources of the most rejected flows, and how many ports they tried", (1,)
    ),
    "rejected_ports": Top(("port",), ("flows",), "destination ports of the most rejected flows"),
    "unanswered": Top(
        ("address", "port"),
        ("missing", "begun"),
        "services whose accepted connections were begun (SYN) more often than answered (SYN-ACK)",
    ),
}
"""Lists of the biggest ten, by name."""

_COMPACT_AT = 1_000_000

Details = Sequence[Any]
"""What a part carries: for each of DISTINCT ``[estimate, coupons]``, then for each of TOP its list or None."""


class DetailsOfObject:
    """Collects the details of an object's rows, batch by batch."""

    def __init__(self) -> None:
        self._coupons: dict[str, list[U64]] = {name: [] for name in DISTINCT}
        self._held = 0
        self._top = {name: TopList(top.largest) for name, top in TOP.items()}

    def add(self, group: Ints, rows: Rows, columns: Columns) -> None:
        """Count rows in; ``group`` is the number of each row's roll-up."""
        hashes = {name: _address_hashes(rows, name) for name in ("srcaddr", "dstaddr")}
        ports = {name: _numbers(columns.get(name)) for name in ("srcport", "dstport")}
        rejected = _is(columns.get("action"), "REJECT", len(group))
        self._count_distinct("addresses", [(group[there], hashed[there]) for hashed, there in _given(hashes)])
        if ports["dstport"] is not None:
            hashed, there = ports["dstport"]
            hashed = scramble(hashed)
            self._count_distinct("destination_ports", [(group[there], hashed[there])])
            there = there & rejected
            self._count_distinct("rejected_ports", [(group[there], hashed[there])])
        self._count_top(group, columns, hashes, ports, rejected)
        self._held += len(group)
        if self._held > _COMPACT_AT:
            self._held = 0
            self._coupons = {name: [union(found)] if found else [] for name, found in self._coupons.items()}
            for top in self._top.values():
                top.compact()

    def finish(self, group_of: Ints, groups: int) -> list[Details]:
        """Return the details of each of ``groups`` groups; ``group_of`` maps what was added to them."""
        columns: list[Sequence[Any]] = []
        for found in self._coupons.values():
            mapped = [_regrouped(grouped, group_of) for grouped in found]
            merged = union(mapped) if mapped else np.zeros(0, np.uint64)
            columns.append([list(pair) for pair in zip(estimates(merged, groups).tolist(), encode(merged, groups))])
        columns += [top.finish(group_of, groups) for top in self._top.values()]
        return [list(row) for row in zip(*columns)]

    def _count_distinct(self, name: str, found: Iterable[tuple[Ints, U64]]) -> None:
        grouped = [(group.astype(np.uint64) << np.uint64(COUPON_BITS)) | coupons(hashed) for group, hashed in found]
        if grouped:
            self._coupons[name].append(union(grouped))

    def _count_top(
        self,
        group: Ints,
        columns: Columns,
        hashes: Mapping[str, tuple[U64, Bools] | None],
        ports: Mapping[str, tuple[U64, Bools] | None],
        rejected: Bools,
    ) -> None:
        source, destination = hashes["srcaddr"], hashes["dstaddr"]
        if source is None or destination is None:
            return
        there = source[1] & destination[1]
        one = np.ones(len(group), np.int64)
        labels = (columns["srcaddr"], columns["dstaddr"])
        counted = _numbers(columns.get("bytes"))
        volume = counted[0].astype(np.int64) if counted else np.zeros(len(group), np.int64)
        pair = source[0] ^ scramble(destination[0])
        self._add_top("talkers", there, group, pair, labels, (volume, one))
        if ports["dstport"] is None or ports["srcport"] is None:
            return
        port = ports["dstport"][0]
        refused = there & rejected
        if refused.any():
            tried = _first_of_each(group, source[0] ^ scramble(port + np.uint64(1)), refused)
            self._add_top("rejected_sources", refused, group, source[0], labels[:1], (one, tried))
            self._add_top("rejected_ports", refused, group, port, (columns["dstport"],), (one,))
        flags = _numbers(columns.get("tcp_flags"))
        if flags is not None:
            begun = there & ((flags[0] & np.uint64(18)) == 2) & ~rejected
            answered = there & ((flags[0] & np.uint64(18)) == 18) & ~rejected
            service = np.where(answered, source[0], destination[0])
            at_port = np.where(answered, ports["srcport"][0], port)
            either = pa.array(answered)
            names = (
                pc.if_else(either, *labels),
                pc.if_else(either, columns["srcport"], columns["dstport"]),
            )
            missing = begun.astype(np.int64) - answered
            self._add_top(
                "unanswered", begun | answered, group, service ^ scramble(at_port + np.uint64(1)), names,
                (missing, begun.astype(np.int64)),
            )  # fmt: skip

    def _add_top(
        self, name: str, chosen: Bools, group: Ints, items: U64, labels: Sequence[pa.Array], values: Sequence[Ints]
    ) -> None:
        if not chosen.all():
            group, items = group[chosen], items[chosen]
            mask = pa.array(chosen)
            labels = [label.filter(mask) for label in labels]
            values = [value[chosen] for value in values]
        self._top[name].add(group, items, labels, values)


def combined(parts: Sequence[Details]) -> dict[str, Any]:
    """Return what a document tells of these details: the distinct counts, and the lists of the biggest."""
    told: dict[str, Any] = {"distinct": {}, "top": {}}
    for place, name in enumerate(DISTINCT):
        found = [part[place] for part in parts]
        told["distinct"][name] = found[0][0] if len(found) == 1 else estimate_union(text for _, text in found)
    for place, (name, top) in enumerate(TOP.items(), len(DISTINCT)):
        lists = [part[place] for part in parts if part[place]]
        if lists:
            listed = lists[0] if len(lists) == 1 else add_up(lists, len(top.labels), top.largest)
            entries = as_objects(listed, (*top.labels, *top.values))
            if name == "unanswered":
                entries = [entry for entry in entries if entry["missing"] > 0]
            if entries:
                told["top"][name] = entries
                told["top"][f"{name}_short_by"] = listed[0]
    return told


def _address_hashes(rows: Rows, name: str) -> tuple[U64, Bools] | None:
    parsed = rows.addresses.get(name)
    if parsed is None:
        return None
    halves = np.ascontiguousarray(parsed.packed).view(np.uint64)
    hashes = scramble(halves[:, 0] + parsed.is_v6)
    if parsed.is_v6.any():
        hashes = np.where(parsed.is_v6, scramble(hashes ^ halves[:, 1]), hashes)
    return hashes, parsed.valid


def _given(hashes: Mapping[str, tuple[U64, Bools] | None]) -> list[tuple[U64, Bools]]:
    return [found for found in hashes.values() if found is not None]


def _numbers(column: pa.Array | None) -> tuple[U64, Bools] | None:
    if column is None:
        return None
    filled = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.uint64)
    return filled, pc.is_valid(column).to_numpy(zero_copy_only=False)


def _is(column: pa.Array | None, value: str, size: int) -> Bools:
    if column is None:
        return np.zeros(size, bool)
    return pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False)


def _first_of_each(group: Ints, items: U64, chosen: Bools) -> Ints:
    """Return 1 for the first chosen row of each group and item, 0 for every other row."""
    places = np.flatnonzero(chosen)
    code = scramble(items[places] ^ scramble(group[places].astype(np.uint64)))
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    first = np.zeros(len(group), np.int64)
    first[places[order[np.append(True, ordered[1:] != ordered[:-1])]]] = 1
    return first


def _regrouped(grouped: U64, group_of: Ints) -> U64:
    group = group_of[(grouped >> np.uint64(COUPON_BITS)).astype(np.int64)].astype(np.uint64)
    return (group << np.uint64(COUPON_BITS)) | (grouped & np.uint64((1 << COUPON_BITS) - 1))
