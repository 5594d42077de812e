"""The ways in which a row counts in a roll-up: rows in, the number of each row's class out.

A row's class says which of a roll-up's counters it adds to; there are few, so rows are summed by class, and classes are
told apart only in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_flowlogs.grouped import Ints, Places
from beam_flowlogs.rollup_key import COUNTERS, DIMENSIONS, KEY_COLUMNS
from beam_flowlogs.rows import Rows

_STATUSES = ("", "nodata", "skipdata")
_ACTIONS = ("", "accepted", "rejected")
ACTIONS = (None, "ACCEPT", "REJECT")
"""What becomes of a flow, as it is logged."""
_DIRECTIONS = ("", "ingress", "egress")
_PROTOCOLS = ("other", "tcp", "udp", "icmp")
_HANDSHAKES = (("",), ("tcp.begun",), ("tcp.answered",), ("tcp.reset",), ("tcp.begun", "tcp.reset"),
               ("tcp.answered", "tcp.reset"))  # fmt: skip
CLASSES = tuple(product(_STATUSES, _ACTIONS, _DIRECTIONS, _PROTOCOLS, _HANDSHAKES))
"""Every way in which a row can count; a row's class is its place here."""


def _handshake(flags: int | None) -> int:
    flags = flags or 0
    opening = (2 if flags & 16 else 1) if flags & 2 else 0
    return opening + (3 if flags & 4 else 0)


_CLASSED: Sequence[tuple[str, Callable[[Any], int | None], int]] = (
    ("log_status", {"NODATA": 1, "SKIPDATA": 2}.get, len(_STATUSES)),
    ("action", {action: place for place, action in enumerate(ACTIONS)}.get, len(_ACTIONS)),
    ("flow_direction", {"ingress": 1, "egress": 2}.get, len(_DIRECTIONS)),
    ("protocol", {6: 1, 17: 2, 1: 3, 58: 3}.get, len(_PROTOCOLS)),
    ("tcp_flags", _handshake, len(_HANDSHAKES)),
)
TOLD = (*KEY_COLUMNS.values(), *(name for name, *_ in _CLASSED), *DIMENSIONS)
"""The columns that say what a row is of, and how it counts. Together they have few values, so much can be done once for
all rows that have the same.
"""


ACTION = np.array([_ACTIONS.index(action) for _, action, *_ in CLASSES])
"""For each class the place of its action among ACTIONS."""
REJECTED = np.array([action == "rejected" for _, action, *_ in CLASSES])
"""For each class whether its rows are of refused flows."""


def _counted(counter: str) -> tuple[str, npt.NDArray[np.bool_]]:
    """Return which sum of a class's rows a counter adds up, and for each class whether it counts."""
    group, _, name = counter.rpartition(".")
    if counter in _STATUSES:
        return "flows", np.array([status == counter for status, *_ in CLASSES])
    if group == "tcp":
        return "flows", np.array([not status and counter in handshake for status, _, _, _, handshake in CLASSES])
    group = group.removeprefix("protocol.")
    return name, np.array(
        [
            not status and group in ("", action, direction, protocol)
            for status, action, direction, protocol, _ in CLASSES
        ]
    )


COUNTED = [_counted(counter) for counter in COUNTERS]
"""For each counter: the sum of a class's rows that it adds up, and which classes count."""


class Placed(NamedTuple):
    """How rows count, by the combinations of all that says so: a row of each of these, its roll-up's number and its
    class; and each row's combination.
    """

    rows: Ints
    groups: Ints
    classes: Ints
    at: Places


def classes(rows: Rows, at: Ints) -> Ints:
    """Return the class of the rows at some places, by its place among CLASSES."""
    found = np.zeros(len(at), np.int64)
    for name, class_of, count in _CLASSED:
        found *= count
        if name in rows.columns:
            codes, values = rows.codes(name)
            found += np.array([class_of(value) or 0 for value in values]).take(codes.take(at))
    return found
