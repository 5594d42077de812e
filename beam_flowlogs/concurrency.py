"""How many requests may be in flight: one more while the server keeps up, half when it does not."""

from __future__ import annotations

import threading
import time
from types import TracebackType

_SLOW = 3.0  # a request this many times slower (per byte) than the best of late says that the server queues
_FORGET = 1.05  # the best of late gets worse by this factor with each request, so that it follows the server
_TELLING_BYTES = 1024 * 1024  # the time of a smaller request says little about the server's load


class AdaptiveGate:
    """Lets `limit` threads in at a time, `limit` between 1 and `most`: additive increase, multiplicative decrease.

    Use it as a context manager around a request, then say how it went: `speed_up` or `slow_down`.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least one request must be let through at a time, not {most}")
        self._most = most
        self._limit = 1.0
        self._inside = 0
        self._best = 0.0  # seconds per byte
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

    def __enter__(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._inside < self.limit)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            self._inside -= 1
            self._turn.notify_all()

    def speed_up(self, seconds: float, size: int) -> None:
        """A request of `size` bytes was answered well in `seconds`."""
        with self._turn:
            if size >= _TELLING_BYTES:
                pace = seconds / size
                self._best = min(pace, self._best * _FORGET) if self._best else pace
                if pace > self._best * _SLOW:
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
