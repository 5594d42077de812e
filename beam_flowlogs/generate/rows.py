"""Flow log records before they have a format: one structured array, numbers and indices only.

Addresses and the points that log (interfaces, regional NAT gateways, transit gateway attachments) are indices into the
``World``; strings are made column by column, when a file is written.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

OK, NODATA, SKIPDATA = 0, 1, 2
STATUSES = ("OK", "NODATA", "SKIPDATA")
"""Values of log-status, by the code of ``status``."""

ROW = np.dtype([
    ("point", np.int32),  # who logs
    ("hop", np.int32),  # the point on the other side, -1: none of ours
    ("src", np.int32),
    ("dst", np.int32),
    ("pkt_src", np.int32),
    ("pkt_dst", np.int32),
    ("srcport", np.int32),
    ("dstport", np.int32),
    ("protocol", np.int32),
    ("packets", np.int64),
    ("bytes", np.int64),
    ("start", np.int64),
    ("end", np.int64),
    ("accept", np.bool_),
    ("tcp_flags", np.int32),
    ("egress", np.bool_),
    ("path", np.int32),  # traffic-path, 0: none
    ("status", np.int8),
])  # fmt: skip

Rows = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def new_rows(count: int, **values: npt.ArrayLike) -> Rows:
    """Return ``count`` rows with the named values (scalars or arrays) and zeros elsewhere; ``hop`` is -1 by default."""
    rows = np.zeros(count, ROW)
    rows["hop"] = -1
    for name, value in values.items():
        rows[name] = value
    return rows


def zipf(count: int, exponent: float) -> Floats:
    """Return ``count`` weights that fall with rank as ``1 / rank ** exponent`` and sum to 1."""
    weights = 1.0 / np.arange(1, count + 1, dtype=np.float64) ** exponent
    return weights / weights.sum()


def draw(rng: np.random.Generator, cumulative: Floats, count: int) -> Ints:
    """Return ``count`` indices, drawn by cumulative weights (the last of which is 1)."""
    return np.minimum(np.searchsorted(cumulative, rng.random(count), side="right"), len(cumulative) - 1)
