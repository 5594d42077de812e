"""The compiled inner loops of ``kernel/``, where they were built: ``compiled`` is their module, else None.

Each is a faster twin of the Python that stands beside its use, which runs where there is no compiler, and which the
tests hold it against (docs/decisions/0014).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_INTERFACE = 4


def _module() -> Any:
    """Return the compiled module; None where it was not built, or from other sources than these."""
    try:
        import beam_flowlogs._kernel
    except ImportError:
        return None
    if getattr(beam_flowlogs._kernel, "INTERFACE", 0) == _INTERFACE:
        return beam_flowlogs._kernel
    logging.getLogger(__name__).warning(
        "the compiled loops are of another version, so the slower Python runs: install the package again"
    )
    return None


compiled = _module()

Bytes = npt.NDArray[np.uint8]


def string_buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.int32], Bytes, Bytes | None]:
    """Return a column's offsets and data, no copies, and what ``valid`` tells of it."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32) if offsets else np.zeros(1, np.int32)
    at = column.offset if offsets else 0
    return bounds[at : at + len(column) + 1], np.frombuffer(data or b"", np.uint8), valid(column)


def number_buffers(
    column: pa.IntegerArray, at: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.int64], Bytes | None]:
    """Return a column's numbers, 0 where it is null, and what ``valid`` tells of it; ``at``: at these places.

    No copy of a whole column that has 64 bits and no null.
    """
    there = valid(column)
    _, data = column.buffers()
    if data is None:
        values = np.zeros(len(column), np.int64)
    else:
        values = np.frombuffer(data, str(column.type))[column.offset : column.offset + len(column)]
    if at is not None:
        values, there = values.take(at), None if there is None else there.take(at)
    if there is None:
        return values.astype(np.int64, copy=False), None
    values = values.astype(np.int64)
    values[there == 0] = 0
    return values, there


def valid(column: pa.Array) -> Bytes | None:
    """Return a byte a row that is 0 where a column is null, else 1; None: it is null nowhere."""
    if not column.null_count:
        return None
    bits = np.frombuffer(column.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=column.offset + len(column), bitorder="little")[column.offset :]
