"""An SQS queue: messages in, receipts out; and the keeper that holds messages while their objects are under way."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from beam_flowlogs.s3_client import CONFIG, ObjectRejected, ObjectUnavailable, Retry, aws_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = ["Message", "QueueRefused", "SqsQueue", "VisibilityKeeper", "keeper"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

BATCH = 10
"""The most messages that SQS takes or gives in one request."""
VISIBILITY_S = 300
"""Seconds for which a received message is hidden from others; extended while it is under way."""
LONGEST_HOLD_S = 6 * 3600
"""Seconds after which a message is no longer held: whatever has it under way then has lost it (SQS itself: 12 h)."""


class Message(NamedTuple):
    """One received message; ``receive_count`` is how often it has been handed out."""

    receipt: str
    body: str
    receive_count: int


class QueueRefused(RuntimeError):  # noqa: N818
    """SQS refuses a request for good: the queue's name or the role's rights are wrong."""


class SqsQueue:
    """One queue. Requests are repeated with back-off for ``retry_for`` seconds (None: for ever)."""

    def __init__(self, client: SQSClient, url: str, *, retry_for: float | None = None) -> None:
        self.url = url
        self._client = client
        self._retry = Retry(retry_for)

    def receive(self, wait_s: int) -> list[Message]:
        """Return up to ten messages, hidden from others for VISIBILITY_S; none when none came within ``wait_s``."""
        answer = self._call(
            lambda: self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=VISIBILITY_S,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        )
        return [
            Message(found["ReceiptHandle"], found["Body"], int(found["Attributes"]["ApproximateReceiveCount"]))
            for found in answer.get("Messages", ())
        ]

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages and return how many; a receipt that expired leaves its message to be delivered again."""
        return sum(self._call(partial(self._delete, entries)) for entries in _batches(receipts))

    def hide(self, receipts: Sequence[str], seconds: int) -> list[str]:
        """Hide messages for ``seconds`` from now (0: give them back); return the receipts that are no longer valid."""
        expired: list[str] = []
        for entries in _batches(receipts):
            expired += self._call(partial(self._hide, entries, seconds))
        return expired

    def _delete(self, receipts: Sequence[str]) -> int:
        entries = [{"Id": str(at), "ReceiptHandle": receipt} for at, receipt in enumerate(receipts)]
        answer = self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)  # type: ignore[arg-type]
        for failed in answer.get("Failed", ()):
            if not failed["SenderFault"]:
                raise ObjectUnavailable(f"{self.url}: a message was not deleted: {failed['Code']}")
            _logger.warning("%s: a receipt has expired, its message will come again: %s", self.url, failed["Code"])
        return len(answer.get("Successful", ()))

    def _hide(self, receipts: Sequence[str], seconds: int) -> list[str]:
        answer = self._client.change_message_visibility_batch(
            QueueUrl=self.url,
            Entries=[
                {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for at, receipt in enumerate(receipts)
            ],
        )
        return [receipts[int(failed["Id"])] for failed in answer.get("Failed", ()) if failed["SenderFault"]]

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return self._retry.call(self.url, action)
        except ObjectRejected as error:
            raise QueueRefused(
                f"SQS refuses {self.url} ({error.__cause__ or error.reason}): check its name and region, and that this "
                "role may sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility on it"
            ) from error


def _batches(receipts: Sequence[str]) -> Iterable[Sequence[str]]:
    for begin in range(0, len(receipts), BATCH):
        yield receipts[begin : begin + BATCH]


def connect_queue(url: str, retry_for: float | None = None) -> SqsQueue:
    """Return a queue reached by this process's SQS client; credentials, region and endpoint as boto3 finds them."""
    return SqsQueue(_client_of(os.getpid()), url, retry_for=retry_for)


@functools.cache
def _client_of(_pid: int) -> SQSClient:
    return aws_session().client("sqs", config=CONFIG)


class VisibilityKeeper:
    """Keeps messages hidden while their objects are under way, from a thread of its own.

    A message is held from ``hold`` until ``let_go``; its process's death, or LONGEST_HOLD_S, gives it back.
    """

    def __init__(self, *, every_s: float = VISIBILITY_S / 3) -> None:
        self._every_s = every_s
        self._held: dict[str, tuple[SqsQueue, float]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def hold(self, queue: SqsQueue, receipts: Iterable[str]) -> None:
        """Keep messages hidden from now on."""
        with self._lock:
            self._held.update((receipt, (queue, time.monotonic())) for receipt in receipts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="visibility", daemon=True)
                self._thread.start()

    def let_go(self, receipts: Iterable[str]) -> None:
        """Hold messages no longer; they stay hidden for what is left of their time."""
        with self._lock:
            for receipt in receipts:
                self._held.pop(receipt, None)

    def give_back(self) -> int:
        """Make everything held visible again, as a job does that stops early; return how many."""
        with self._lock:
            held, self._held = self._held, {}
        for queue, receipts in _by_queue(held).items():
            queue.hide(receipts, 0)
        return len(held)

    def extend(self) -> None:
        """Hide all that is held for another VISIBILITY_S; forget what has expired or been held for too long."""
        oldest = time.monotonic() - LONGEST_HOLD_S
        with self._lock:
            self._held = {receipt: (queue, since) for receipt, (queue, since) in self._held.items() if since > oldest}
            held = dict(self._held)
        for queue, receipts in _by_queue(held).items():
            self.let_go(queue.hide(receipts, VISIBILITY_S))

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            try:
                self.extend()
            except (QueueRefused, ObjectUnavailable) as error:
                _logger.warning("messages could not be kept hidden and may be delivered again: %s", error)


def _by_queue(held: dict[str, tuple[SqsQueue, float]]) -> dict[SqsQueue, list[str]]:
    grouped: dict[SqsQueue, list[str]] = {}
    for receipt, (queue, _) in held.items():
        grouped.setdefault(queue, []).append(receipt)
    return grouped


@functools.cache
def keeper() -> VisibilityKeeper:
    """Return this process's keeper."""
    return VisibilityKeeper()
