"""Receipts of messages whose objects are under way in; the messages kept hidden, and given back on a clean stop."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from beam_flowlogs.flink_rest import JobAt
from beam_flowlogs.sqs_queue import Hidden, SqsQueue, batches

_logger = logging.getLogger(__name__)

LONGEST_HOLD_S = 6 * 3600
"""Seconds after which a message is no longer held: whatever has it under way then has lost it (SQS itself: 12 h)."""
_WARN_EVERY_S = 60.0
_AT_ONCE = 8
"""Requests at a time when everything is given back: 2,000 messages in 25 turns."""


class Kept(NamedTuple):
    """What a keeper holds now: messages, and the bytes of the objects that they announce."""

    messages: int
    bytes: int


class _Held(NamedTuple):
    queue: SqsQueue
    size: int
    since: float
    hidden: float


class VisibilityKeeper:
    """Keeps messages hidden while their objects are under way, from a thread of its own.

    A message is held from ``hold`` until ``let_go``; its process's death, or LONGEST_HOLD_S, gives it back. Every
    message is extended when a third of its time has passed, so that two attempts may fail.

    ``job`` is the one that this process works for, where that is known.
    """

    def __init__(self, *, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._held: dict[str, _Held] = {}
        self._extended = self._expired = 0
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # one at a time asks SQS, else what was just given back would be hidden again
        self._receiving = 0
        self._closed = False
        self._idle = threading.Condition(self._lock)
        self.job: JobAt | None = None
        self._thread: threading.Thread | None = None
        self._warned = -_WARN_EVERY_S

    @contextmanager
    def receiving(self) -> Iterator[bool]:
        """Tell whether messages may be received; what is received has to be held before this is left."""
        with self._lock:
            may = not self._closed
            self._receiving += may
        try:
            yield may
        finally:
            with self._lock:
                self._receiving -= may
                self._idle.notify_all()

    def close(self, seconds: float) -> None:
        """Let nobody receive any more, and wait at most so long for what is just being received to be held."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._receiving, seconds)

    def hold(self, queue: SqsQueue, sizes: Mapping[str, int]) -> None:
        """Keep messages hidden from now on: receipts, and the bytes of the objects that they announce."""
        now = time.monotonic()
        with self._lock:
            self._held.update((receipt, _Held(queue, size, now, now)) for receipt, size in sizes.items())
            if self._thread is None or not self._thread.is_alive():  # none in this process, if that was forked
                self._thread = threading.Thread(target=self._run, name="visibility", daemon=True)
                self._thread.start()

    def let_go(self, receipts: Iterable[str]) -> None:
        """Hold messages no longer; they stay hidden for what is left of their time."""
        with self._lock:
            for receipt in receipts:
                self._held.pop(receipt, None)

    def kept(self) -> Kept:
        """Return what is held now."""
        with self._lock:
            return Kept(len(self._held), sum(held.size for held in self._held.values()))

    def news(self) -> tuple[int, int]:
        """Return how often messages were extended, and found expired, since anybody asked: each is told of once."""
        with self._lock:
            news, self._extended, self._expired = (self._extended, self._expired), 0, 0
        return news

    def give_back(self) -> int:
        """Make everything held visible again, as a job does that stops early; return how many messages are.

        Several requests at a time: a process that has to end is given a few seconds.
        """
        with self._asking:
            with self._lock:
                held, self._held = self._held, {}
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="give-back") as threads:
                found = threads.map(lambda request: self._hide(request[0], request[1], 0), _requests(held))
                return sum(len(done.hidden) for done in found if done)

    def extend(self) -> None:
        """Hide anew what has used up a third of its time; forget what has expired or been held for too long.

        A message that another process has deleted counts as expired here: that is how it is found out. A queue that
        fails once has its turn the next time: it may take a minute to fail, and others wait.
        """
        failed: set[SqsQueue] = set()
        with self._asking:
            now = time.monotonic()
            with self._lock:
                self._held = {at: held for at, held in self._held.items() if held.since > now - LONGEST_HOLD_S}
                due = {at: held for at, held in self._held.items() if held.hidden <= now - held.queue.visibility_s / 3}
            for queue, receipts in _requests(due):
                found = self._hide(queue, receipts, queue.visibility_s) if queue not in failed else None
                if found is None:
                    failed.add(queue)
                    continue
                self.let_go(found.expired)
                with self._lock:
                    self._extended += len(found.hidden)
                    self._expired += len(found.expired)
                    for receipt in found.hidden:
                        if receipt in self._held:
                            self._held[receipt] = self._held[receipt]._replace(hidden=now)

    def _hide(self, queue: SqsQueue, receipts: Sequence[str], seconds: int) -> Hidden | None:
        """Return what ``SqsQueue.hide`` does; None where it failed, whatever the reason: the others need their turn."""
        try:
            return queue.hide(receipts, seconds)
        except Exception as error:
            now = time.monotonic()
            with self._lock:
                tell = now - self._warned >= _WARN_EVERY_S
                self._warned = now if tell else self._warned
            if tell:
                _logger.warning(
                    "%s: how long messages stay hidden could not be changed, they may be delivered again: %s",
                    queue.url,
                    error,
                    exc_info=error,
                )
            return None

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            try:
                self.extend()
            except Exception:
                _logger.exception("messages could not be kept hidden and may be delivered again")


def _requests(held: Mapping[str, _Held]) -> Iterator[tuple[SqsQueue, Sequence[str]]]:
    """Yield what is asked for in one request: messages of a queue, as many as SQS takes."""
    grouped: dict[SqsQueue, list[str]] = {}
    for receipt, entry in held.items():
        grouped.setdefault(entry.queue, []).append(receipt)
    for queue, receipts in grouped.items():
        for some in batches(receipts):
            yield queue, some


@functools.cache
def keeper() -> VisibilityKeeper:
    """Return this process's keeper."""
    return VisibilityKeeper()
