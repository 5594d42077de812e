"""Ready bulk items in, a verdict for each of them out.

An item is the bytes of an action line and a document line: ``{"create":{"_index":"i","_id":"7"}}\\n{...}\\n``. Items
arrive as Arrow binary arrays, leave as bodies of bounded size, and every one of them ends as written, in conflict
(409) or rejected. What the cluster cannot take now is sent again, alone, until it can: an item must carry its own id,
so that sending it twice writes it once.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import pyarrow as pa
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk_request import TOO_LARGE, Body, ItemRejected, Outcome, Refused, cut, outcome_of, send
from beam_flowlogs.concurrency import AdaptiveGate
from beam_flowlogs.secret import SecretUnavailable

__all__ = ["BulkCancelled", "BulkConfig", "BulkGaveUp", "BulkResult", "BulkStream", "BulkWriter", "ItemRejected"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkConfig:
    """Limits of one process's bulk requests: bytes and items of a body, bodies in flight, seconds of patience.

    `retry_for`: how many seconds a body may make no progress before BulkGaveUp is raised; None waits for ever, with a
    warning of each kind of trouble every `warn_every` seconds. Delays between attempts double from `first_delay` to
    `longest_delay` seconds.
    Bodies in memory come to at most `concurrency * max_bytes`: they are sent from where they lie. A stream holds the
    results of twice as many, until those before them are told of.
    """

    max_bytes: int = 12 * 1024 * 1024
    max_actions: int = 10_000
    concurrency: int = 4
    retry_for: float | None = None
    first_delay: float = 0.2
    longest_delay: float = 15.0
    warn_every: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_actions", "concurrency", "first_delay", "longest_delay", "warn_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"BulkConfig.{name} must be above 0, not {getattr(self, name)}")
        if self.retry_for is not None and self.retry_for < 0:
            raise ValueError(f"BulkConfig.retry_for must be 0 or more seconds, or None for ever, not {self.retry_for}")


class BulkResult(NamedTuple):
    """What became of the items submitted: `written + duplicates + len(rejected)` is their number, exactly.

    `conflicts`: positions answered by 409, in order: a `create` whose id exists (a duplicate), an external version or
    `if_seq_no` that was overtaken. `retries`: requests that had to be sent again, whole or in part. `bytes`: what was
    sent, retries included. `latencies`: milliseconds of each answered request.
    """

    written: int = 0
    conflicts: tuple[int, ...] = ()
    rejected: tuple[ItemRejected, ...] = ()
    retries: int = 0
    bytes: int = 0
    latencies: tuple[int, ...] = ()

    @property
    def duplicates(self) -> int:
        """How many items were answered by 409."""
        return len(self.conflicts)


class BulkGaveUp(RuntimeError):  # noqa: N818
    """A body made no progress for `retry_for` seconds; of its items nothing is known, so send them again."""


class BulkCancelled(RuntimeError):  # noqa: N818
    """A body was still waiting when its stream was closed."""


class BulkWriter:
    """Sends the items of any number of threads; one per process, so that the limits hold for the process.

    `connect` gives the client and is called for every request, so that renewed credentials are found. `max_bytes` is
    that of the configuration, or half of what was refused for its size (413) since: a proxy may let through less.
    """

    def __init__(self, connect: Callable[[], Elasticsearch], config: BulkConfig | None = None) -> None:
        self.config = config or BulkConfig()
        self.max_bytes = self.config.max_bytes
        self._connect = connect
        self._room = threading.BoundedSemaphore(self.config.concurrency)
        self._gate = AdaptiveGate(self.config.concurrency)
        self._threads = ThreadPoolExecutor(self.config.concurrency, thread_name_prefix="bulk")
        self._warnings = _Warnings(self.config.warn_every)

    @property
    def in_flight(self) -> int:
        """Requests on the wire now."""
        return self._gate.inside

    @property
    def concurrency(self) -> int:
        """Requests allowed on the wire now: between 1 and `config.concurrency`, by what the cluster takes."""
        return self._gate.limit

    def write(self, items: pa.Array | pa.ChunkedArray) -> BulkResult:
        """Send `items`; returns when each is written, in conflict or rejected."""
        with self.stream() as stream:
            stream.submit(items)
            return stream.flush()

    def stream(self) -> BulkStream:
        """A series of submits with one result, sent while the caller renders the next; use it in a `with`."""
        return BulkStream(self)

    def close(self) -> None:
        """End the writer's threads, after the bodies they hold."""
        self._threads.shutdown()

    def _start(self, body: Body, cancelled: threading.Event) -> Future[BulkResult]:
        self._room.acquire()  # the caller waits here while the cluster is slow: back-pressure, and bounded memory
        try:
            future = self._threads.submit(self._deliver, body, cancelled)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _deliver(self, body: Body, cancelled: threading.Event) -> BulkResult:
        total, todo = _Total(), deque([body])
        attempt, progress = 0, time.monotonic()
        while todo:
            body = todo.popleft()
            try:
                outcome = self._send(body, total, cancelled)
            except Refused as refused:
                if refused.divisible and len(body.items) > 1:
                    if refused.status == TOO_LARGE:
                        self.max_bytes = min(self.max_bytes, max(1, len(body.view()) // 2))
                    todo.extendleft(reversed(body.halves()))
                    continue
                outcome = outcome_of(refused, body)
            total.add(outcome)
            if len(outcome.again) < len(body.items):
                attempt, progress = 0, time.monotonic()
            if not outcome.again:
                continue
            again = body.take(outcome.again)
            todo.appendleft(again)
            total.retries += 1
            self._wait(again, outcome.troubles, attempt, time.monotonic() - progress, cancelled)
            attempt += 1
        return total.result()

    def _send(self, body: Body, total: _Total, cancelled: threading.Event) -> Outcome:
        data = body.view()
        with self._gate.turn(len(data)) as load:
            if cancelled.is_set():
                raise BulkCancelled(f"{len(body.items)} items were not sent: their stream was closed")
            started = time.monotonic()
            try:
                outcome = send(self._connect(), body, data)
            except SecretUnavailable as e:
                raise Refused(401, "secret_unavailable", str(e)) from e
            except Refused as refused:
                if not refused.divisible:
                    self._gate.slow_down(time.monotonic() - started)
                raise
            finally:
                seconds = time.monotonic() - started
                total.sent(len(data), seconds)
        if outcome.overloaded:
            self._gate.slow_down(seconds)
        elif outcome.written == len(body.items):
            self._gate.speed_up(seconds, len(data), load)
        return outcome

    def _wait(
        self, body: Body, troubles: dict[str, str], attempt: int, stuck: float, cancelled: threading.Event
    ) -> None:
        limit = self.config.retry_for
        if limit is not None and stuck >= limit:
            raise BulkGaveUp(
                f"{len(body.items)} bulk items made no progress for {stuck:.1f} s (retry_for is {limit:g} s). "
                + " ".join(troubles.values())
            )
        for reason, trouble in troubles.items():
            self._warnings.tell(reason, len(body.items), stuck, trouble)
        longest = min(self.config.longest_delay, self.config.first_delay * 2.0 ** min(attempt, 30))
        if cancelled.wait(random.uniform(longest / 2, longest)):  # noqa: S311 (spreads load, guards nothing)
            raise BulkCancelled(f"{len(body.items)} items were waiting to be sent again: their stream was closed")


class BulkStream:
    """Submits of one thread, sent in the background; `flush` waits for all of them and gives their result.

    An error of a body that is under way is raised by the next `submit` or by `flush`. Leaving the `with` before
    `flush` cancels what is still under way.
    """

    def __init__(self, writer: BulkWriter) -> None:
        self._writer = writer
        self._under_way: deque[Future[BulkResult]] = deque()
        self._total = _Total()
        self._submitted = 0
        self._cancelled = threading.Event()

    def __enter__(self) -> BulkStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def submit(self, items: pa.Array | pa.ChunkedArray) -> None:
        """Send `items` in the background; waits while as many bodies as the writer may hold are under way.

        One that is stuck holds back those that ended after it: with twice as many behind it as may be under way, wait
        for it, or what the caller keeps for each of them would grow without end.
        """
        config = self._writer.config
        for body in cut(items, self._submitted, self._writer.max_bytes, config.max_actions):
            self._collect(at_most=2 * config.concurrency - 1)
            self._under_way.append(self._writer._start(body, self._cancelled))
            self._submitted += len(body.items)

    def poll(self) -> BulkResult:
        """What became of the items whose bodies have ended by now; each item is told of by one poll or flush.

        Never waits. Bodies end out of order, but one is told of only when all before it are: what the polls of a
        stream have told of is always the items from its first to some last.
        """
        self._collect()
        return self._take()

    def flush(self) -> BulkResult:
        """What became of everything submitted since the last poll or flush.

        Positions count submitted items from the last flush on; those of a later poll or flush begin at 0.
        """
        self._collect(at_most=0)
        self._submitted = 0
        return self._take()

    def cancel(self) -> None:
        """Give up what is under way: bodies on the wire finish unheard, waiting ones are dropped."""
        self._cancelled.set()
        for future in self._under_way:
            future.cancel()
        self._under_way.clear()

    def _take(self) -> BulkResult:
        result, self._total = self._total.result(), _Total()
        return result

    def _collect(self, *, at_most: float = math.inf) -> None:
        """Add the results of bodies that have ended, and wait until `at_most` are under way."""
        while self._under_way and (len(self._under_way) > at_most or self._under_way[0].done()):
            self._total.merge(self._under_way.popleft().result())


class _Total:
    """A result that grows."""

    def __init__(self) -> None:
        self.written = self.retries = self.bytes = 0
        self.conflicts: list[int] = []
        self.rejected: list[ItemRejected] = []
        self.latencies: list[int] = []

    def sent(self, size: int, seconds: float) -> None:
        self.bytes += size
        self.latencies.append(round(seconds * 1000))

    def add(self, outcome: Outcome) -> None:
        self.written += outcome.written
        self.conflicts += outcome.conflicts
        self.rejected += outcome.rejected

    def merge(self, result: BulkResult) -> None:
        self.written += result.written
        self.retries += result.retries
        self.bytes += result.bytes
        self.conflicts += result.conflicts
        self.rejected += result.rejected
        self.latencies += result.latencies

    def result(self) -> BulkResult:
        conflicts, rejected = tuple(sorted(self.conflicts)), tuple(sorted(self.rejected))
        return BulkResult(self.written, conflicts, rejected, self.retries, self.bytes, tuple(self.latencies))


class _Warnings:
    """Says what is failing and for how long, each reason at a bounded rate; shared by the threads of a writer."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def tell(self, reason: str, items: int, stuck: float, trouble: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._told.get(reason, float("-inf")) < self._every:
                return
            self._told[reason] = now
        _logger.warning(
            "Elasticsearch has not taken %d bulk items%s; nothing is lost, they are sent again. %s",
            items,
            f" for {stuck:.0f} s" if stuck >= 1 else "",
            trouble,
        )
