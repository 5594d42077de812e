"""Memory for large results that come and go: a size in, room for so many bytes out, handed out again once it is free.

A batch's text has some three megabytes, its documents thirty. Pages that the kernel gives a process are cleared before,
and to have that done for each batch anew takes as much CPU as inflating what it was made of.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_KEPT = 2
_LEAST, _MOST = 1 << 20, 64 << 20
"""Smaller pieces come from memory that the process has already; larger ones are too much to keep."""

_spare: deque[npt.NDArray[np.uint8]] = deque(maxlen=_KEPT)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt, as its malloc.h numbers them."""


def keep_freed_memory() -> None:
    """Have the C library keep up to 64 MiB that were freed, and serve pieces of up to 32 MiB from them.

    By itself it gives such pieces back to the kernel at once, and has sixteen arenas and more for the threads of a
    worker, each of which keeps what it once needed. So does Arrow's own allocator, thread by thread: Arrow is to use
    the library's then. One that cannot be told so (not glibc) is left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 32 << 20)
    mallopt(_TRIM_THRESHOLD, 64 << 20)
    mallopt(_ARENA_MAX, 2)
    pa.set_memory_pool(pa.system_memory_pool())


def room(size: int) -> npt.NDArray[np.uint8]:
    """Return an array of so many bytes, whatever they hold. Whoever refers to it keeps it; then it is spare again."""
    if not _LEAST <= size <= _MOST:
        return np.empty(size, np.uint8)
    try:
        memory = _spare.popleft()  # by turns: one that fits no longer is met, and let go
    except IndexError:
        memory = np.empty(0, np.uint8)
    if not size <= len(memory) <= 4 * size:
        memory = np.empty(size + size // 8, np.uint8)
    # Not a slice: numpy lets a slice of a slice refer to the memory itself, past the one that is watched.
    lent = np.frombuffer(memory.data[:size], np.uint8)
    weakref.finalize(lent, _spare.append, memory).atexit = False
    return lent
