"""What a roll-up tells beyond sums: how many different addresses and ports, and the biggest few of several kinds.

``DISTINCT`` and ``TOP`` say what there is; the mapping and the docs derive from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_flowlogs.distinct import (
    COUPON_BITS,
    U64,
    chained,
    coupons,
    encode,
    estimate_union,
    estimates,
    scramble,
    union,
)
from beam_flowlogs.grouped import Ints
from beam_flowlogs.hashed_rows import (
    Bools,
    GatheredRows,
    HashedColumn,
    HashedRows,
    at_places,
    either,
    first_of_each,
)
from beam_flowlogs.row_classes import ACTION, ACTIONS, REJECTED, Placed
from beam_flowlogs.rows import Rows
from beam_flowlogs.services import ADDRESSES, PORTS, services
from beam_flowlogs.top_list import LISTED, TopList, add_up, as_objects

MOST_CONVERSATIONS = 1000
"""Each is an object of its own within the roll-up's document; Elasticsearch takes 10,000 in one."""

DISTINCT: Mapping[str, str] = {
    "addresses": "different addresses on either side of its flows, its own included",
    "destination_ports": "different destination ports of its flows, those of replies to clients included",
    "rejected_ports": "different destination ports of its rejected flows",
}
"""Distinct counts, by name: estimates with a standard error of 3.3 %."""


class Top(NamedTuple):
    """A list of the biggest: what an entry is named by, its numbers, and which of those objects do not add up.

    ``listed`` is how many entries a roll-up has at most.
    """

    labels: tuple[str, ...]
    values: tuple[str, ...]
    meaning: str
    largest: tuple[int, ...] = ()
    listed: int = LISTED


OF_ALL_ROWS = frozenset({"addresses", "destination_ports", "talkers"})
"""Those that every row takes part in: they cost more than all sums together, so they have to be asked for."""


TOP: Mapping[str, Top] = {
    "talkers": Top(("source", "destination"), ("bytes", "flows"), "pairs of addresses with the most bytes"),
    "rejected_sources": Top(
        ("address",), ("flows", "ports"), "sources of the most rejected flows, and how many ports they tried", (1,)
    ),
    "rejected_ports": Top(("port",), ("flows",), "destination ports of the most rejected flows"),
    "unanswered": Top(
        ("address", "port"),
        ("missing", "begun"),
        "services whose accepted connections were begun more often than answered",
    ),
    "conversations": Top(
        ("source", "destination", "port", "protocol", "action"),
        ("bytes", "packets", "flows"),
        "flows of one source, destination, destination port, protocol and action",
        listed=MOST_CONVERSATIONS,
    ),
}
"""Lists of the biggest ten, by name; of conversations, as many of each object as are asked for."""

_ACTIONS = pa.array(ACTIONS)
_COMPACT_AT = 1_000_000
_GATHERED = 50_000
"""Rows of few that are brought together before they are counted."""

Details = Sequence[Any]
"""What a part carries: ``_FORM``, for each of DISTINCT ``[estimate, coupons]``, for each of TOP its list, or None.

A part without any of them has an empty one.
"""

_NAMES = (*DISTINCT, *TOP)
_FORM = 2
"""Changes with the form of details: stored ones, and those in a savepoint, may be of an earlier version."""


class DetailsOfObject:
    """Collects the details of an object's rows, batch by batch.

    ``complete`` asks for those of OF_ALL_ROWS too, ``conversations`` for so many of a roll-up.
    """

    def __init__(self, *, complete: bool, conversations: int) -> None:
        self._complete = complete
        self._conversations = conversations
        self._rejected, self._services = GatheredRows(), GatheredRows()
        self._coupons: dict[str, list[U64]] = {name: [] for name in DISTINCT}
        self._held = 0
        self._top = {name: TopList(top.largest) for name, top in TOP.items()}
        self._top["conversations"] = TopList(listed=conversations)

    def add(self, placed: Placed, rows: Rows) -> None:
        """Count rows in."""
        if self._complete:
            self._add_all(placed, rows)
        if self._conversations:
            self._add_conversations(placed, rows)
        if "dstport" in rows.columns:
            at = np.flatnonzero(REJECTED[placed.classes].take(placed.at))
            self._rejected.add(HashedRows.of(placed, rows, at, addresses=["srcaddr"], numbers=["dstport"]))
        found = services(placed, rows)
        if found is not None:
            at, *counts = found
            self._services.add(HashedRows.of(placed, rows, at, addresses=ADDRESSES, numbers=PORTS), *counts)
        self._add_gathered(_GATHERED)
        self._held += rows.batch.num_rows
        if self._held > _COMPACT_AT:
            self._held = 0
            self._coupons = {name: [union(found)] if found else [] for name, found in self._coupons.items()}

    def finish(self, group_of: Ints, groups: int) -> list[Details]:
        """Return the details of each of ``groups`` groups; ``group_of`` maps what was added to them."""
        self._add_gathered(0)
        columns: list[Sequence[Any]] = []
        for found in self._coupons.values():
            merged = union([_regrouped(grouped, group_of) for grouped in found]) if found else np.zeros(0, np.uint64)
            counts = estimates(merged, groups).tolist() if found else [0] * groups
            texts = encode(merged, groups) if found else [""] * groups
            columns.append([[count, text] if text else None for count, text in zip(counts, texts)])
        columns += [top.finish(group_of, groups) for top in self._top.values()]
        return [[_FORM, *row] if any(row) else () for row in zip(*columns)]

    def _add_gathered(self, most: int) -> None:
        """Count what was gathered of which there are more rows than that."""
        if self._rejected.size > most:
            rejected, _ = self._rejected.take()
            self._add_rejected(rejected)
        if self._services.size > most:
            served, counts = self._services.take()
            self._add_services(served, *counts)

    def _add_all(self, placed: Placed, rows: Rows) -> None:
        batch = HashedRows.of(placed, rows, addresses=["srcaddr", "dstaddr"], numbers=["dstport"])
        source, destination = batch.address("srcaddr"), batch.address("dstaddr")
        if source and destination:
            self._count_distinct("addresses", batch.group, source, destination)
            values = rows.integers("bytes"), np.ones(len(batch.group), np.int64)
            self._add_top("talkers", batch.group, (source, destination), values)
        port = batch.port("dstport")
        if port:
            self._count_distinct("destination_ports", batch.group, port)

    def _add_conversations(self, placed: Placed, rows: Rows) -> None:
        batch = HashedRows.of(placed, rows, addresses=["srcaddr", "dstaddr"], numbers=["dstport", "protocol"])
        source, destination = batch.address("srcaddr"), batch.address("dstaddr")
        if source and destination:
            every = np.ones(len(batch.group), bool)  # a conversation may be one without a port
            action = ACTION[placed.classes].take(placed.at)
            others = [
                batch.number("dstport")._replace(there=every),
                batch.number("protocol")._replace(there=every),
                HashedColumn(scramble(action.astype(np.uint64)), every, lambda at: _ACTIONS.take(pa.array(action[at]))),
            ]
            sums = rows.integers("bytes"), rows.integers("packets"), every.astype(np.int64)
            self._add_top("conversations", batch.group, [source, destination, *others], sums)

    def _add_rejected(self, batch: HashedRows) -> None:
        source, port = batch.address("srcaddr"), batch.port("dstport")
        one = np.ones(len(batch.group), np.int64)
        if source and port:
            self._add_top("rejected_sources", batch.group, (source,), (one, first_of_each(batch.group, source, port)))
        if port:
            self._count_distinct("rejected_ports", batch.group, port)
            self._add_top("rejected_ports", batch.group, (port,), (one,))

    def _add_services(self, batch: HashedRows, is_source: Bools, begun: Ints, answered: Ints) -> None:
        source, destination = batch.address("srcaddr"), batch.address("dstaddr")
        if source and destination:  # always: they are what services were told by
            port = either(is_source, batch.number("srcport"), batch.number("dstport"))
            labels = (either(is_source, source, destination), port)
            self._add_top("unanswered", batch.group, labels, (begun - answered, begun))

    def _count_distinct(self, name: str, group: Ints, *sides: HashedColumn) -> None:
        above = group.astype(np.uint64) << np.uint64(COUPON_BITS)
        grouped = [(above | coupons(side.hashes))[side.there] for side in sides]
        self._coupons[name].append(union(grouped))

    def _add_top(self, name: str, group: Ints, labels: Sequence[HashedColumn], values: Sequence[Ints]) -> None:
        hashes, whole, values_of = zip(*labels)
        items, there = chained(*hashes), np.logical_and.reduce(whole)
        if not there.all():
            group, items, values = group[there], items[there], [value[there] for value in values]
            values_of = [at_places(np.flatnonzero(there), value_of) for value_of in values_of]
        self._top[name].add(group, items, values_of, values)


def combined(parts: Sequence[Details]) -> dict[str, Any]:
    """Return what a document tells of these details: the distinct counts, and the lists of the biggest.

    Those of another form tell nothing; the sums of their parts count all the same.
    """
    distinct: dict[str, int] = {}
    biggest: dict[str, Any] = {}
    columns = zip(*[part[1:] for part in parts if part[0] == _FORM])
    for place, (name, column) in enumerate(zip(_NAMES, columns)):
        if not any(column):
            continue
        found = [told for told in column if told]
        if place < len(DISTINCT):
            distinct[name] = found[0][0] if len(found) == 1 else estimate_union(text for _, text in found)
            continue
        top = TOP[name]
        listed = found[0] if len(found) == 1 else add_up(found, len(top.labels), top.largest, top.listed)
        entries = as_objects(listed, (*top.labels, *top.values))
        if name == "unanswered":  # it is also held what was answered more often than begun: here, not elsewhere
            entries = [entry for entry in entries if entry["missing"] > 0]
        if entries:
            biggest |= {name: entries, f"{name}_short_by": listed[0]}
    return {name: told for name, told in (("distinct", distinct), ("top", biggest)) if told}


def _regrouped(grouped: U64, group_of: Ints) -> U64:
    group = group_of[(grouped >> np.uint64(COUPON_BITS)).astype(np.int64)].astype(np.uint64)
    return (group << np.uint64(COUPON_BITS)) | (grouped & np.uint64((1 << COUPON_BITS) - 1))
