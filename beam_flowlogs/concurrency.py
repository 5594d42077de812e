"""How many requests may be in flight: one more while the server keeps up, half when it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SLOW = 3.0  # a request this many times slower (per byte) than the best of late says that the server has too much to do
_FORGET = 1.05  # the best of late gets worse by this factor with each request, so that it follows the server
_TELLING_BYTES = 1024 * 1024  # the time of a smaller request says little about the server's load


class AdaptiveGate:
    """Lets `limit` threads in at a time, `limit` between 1 and `most`: additive increase, multiplicative decrease.

    Send a request inside of `turn`, then say how it went: `speed_up` or `slow_down`.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least one request must be let through at a time, not {most}")
        self._most = most
        self._limit = 1.0
        self._inside = 0
        self._load = 0
        self._best = _Best()
        self._best_shared = _Best()
        self._slowed_at: float | None = None
        self._turn = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    @property
    def inside(self) -> int:
        """Requests that are in flight now."""
        return self._inside

    @contextmanager
    def turn(self, size: int) -> Iterator[int]:
        """Wait for a turn to send `size` bytes; gives the bytes that are in flight then, these included."""
        with self._turn:
            self._turn.wait_for(lambda: self._inside < self.limit)
            self._inside += 1
            self._load += size
            load = self._load
        try:
            yield load
        finally:
            with self._turn:
                self._inside -= 1
                self._load -= size
                self._turn.notify_all()

    def speed_up(self, seconds: float, size: int, load: int) -> None:
        """A request of `size` bytes was answered well in `seconds`; `load` is what `turn` gave.

        Its pace is looked at in two ways, and has to be slow in both. By its own bytes, a request that waits behind
        others of ours in a server that does one at a time looks slow. By all bytes in flight, one that is alone in a
        server that does many at a time does. Neither says that the server has too much to do.
        """
        with self._turn:
            if size >= _TELLING_BYTES:
                slow = self._best.is_far_better_than(seconds / size)
                if self._best_shared.is_far_better_than(seconds / load) and slow:
                    self._halve(seconds)
                    return
            # Until the first trouble the limit doubles with each round of answers, afterwards it grows by one.
            step = 1.0 if self._slowed_at is None else 1.0 / self._limit
            self._limit = min(float(self._most), self._limit + step)
            self._turn.notify_all()

    def slow_down(self, seconds: float) -> None:
        """A request that took `seconds` was turned away by a server that has too much to do, or did not answer."""
        with self._turn:
            self._halve(seconds)

    def _halve(self, seconds: float) -> None:
        now = time.monotonic()
        # Requests that were under way when the limit was halved tell of the old limit.
        if self._slowed_at is None or now - seconds >= self._slowed_at:
            self._limit = max(1.0, self._limit / 2)
            self._slowed_at = now


class _Best:
    """The best pace of late, in seconds per byte."""

    def __init__(self) -> None:
        self._pace = 0.0

    def is_far_better_than(self, pace: float) -> bool:
        """Tell whether `pace` is much slower than the best of late, which it then is one of."""
        self._pace = min(pace, self._pace * _FORGET) if self._pace else pace
        return pace > self._pace * _SLOW
