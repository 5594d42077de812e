"""Memory for large results that come and go: a size in, room for so many bytes out, handed out again once it is free.

A batch's documents have some thirty megabytes. Pages that the kernel gives a process are cleared before, and to have
that done for each batch anew takes as much CPU as inflating what it was made of.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

_KEPT = 2
_LEAST = 1 << 20

_spare: deque[npt.NDArray[np.uint8]] = deque(maxlen=_KEPT)


def room(size: int) -> npt.NDArray[np.uint8]:
    """Return an array of so many bytes, whatever they hold. Whoever refers to it keeps it; then it is spare again."""
    if size < _LEAST:
        return np.empty(size, np.uint8)
    try:
        memory = _spare.pop()
    except IndexError:
        memory = np.empty(0, np.uint8)
    if not size <= len(memory) <= 4 * size:
        memory = np.empty(size + size // 8, np.uint8)
    lent = memory[:size]
    weakref.finalize(lent, _spare.append, memory).atexit = False
    return lent
