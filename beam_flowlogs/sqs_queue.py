"""An SQS queue: messages in, receipts out."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from beam_flowlogs.flink_rest import JobAt
from beam_flowlogs.s3_client import CONFIG, ObjectRejected, ObjectUnavailable, Retry, aws_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = [
    "Hidden",
    "Message",
    "QueueConfig",
    "QueueRefused",
    "SqsQueue",
    "batches",
    "check_queue_url",
    "connect_queue",
]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

BATCH = 10
"""The most messages that SQS takes or gives in one request."""
VISIBILITY_S = 300
"""Seconds for which a received message is hidden from others, unless told otherwise; extended while it is under way."""
MOST_VISIBILITY_S = 12 * 3600
"""The most seconds that SQS hides a message for."""
MAX_RECEIVES = 20
"""Times that a message is tried, unless told otherwise. Outages count too, so it is more than a deadly object needs."""


@dataclass(frozen=True)
class QueueConfig:
    """How an endless job receives.

    Each queue of ``urls`` is polled by ``shards`` pollers. A worker process receives nothing while it holds
    ``max_in_flight`` messages, or messages that announce ``max_in_flight_bytes`` of objects. A message that was handed
    out more than ``max_receives`` times is set aside (0: never). ``visibility_s`` is how long a message is hidden from
    others; it is extended while the message is under way, so it only matters when a worker dies. AWS delivers flow logs
    ``delivery_delay_s`` after the fact at the latest: the watermark trails what is being received by so much.
    ``job`` is where a worker that has to end asks whether it does so for good, and may give back what it holds.
    """

    urls: tuple[str, ...]
    shards: int = 2
    max_in_flight: int = 2000
    """A message is under way for about 35 seconds, until its roll-ups are written: 57 objects/s in a process."""
    max_in_flight_bytes: int = 1 << 30
    max_receives: int = MAX_RECEIVES
    visibility_s: int = VISIBILITY_S
    delivery_delay_s: int = 900
    job: JobAt | None = None

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("no queue to receive from: name one with --queue-url")
        for url in self.urls:
            check_queue_url(url)
        for name, least in (("shards", 1), ("max_in_flight", 1), ("max_in_flight_bytes", 1), ("delivery_delay_s", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not 3 <= self.visibility_s <= MOST_VISIBILITY_S:
            raise ValueError(f"visibility_s is {self.visibility_s}: give 3 to {MOST_VISIBILITY_S} seconds")


def check_queue_url(url: str) -> None:
    """Raise ValueError for what cannot be the URL of a queue, a name or an ARN for instance."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or len(parts.path.strip("/")) == 0:
        raise ValueError(
            f"{url!r} is no URL of a queue: it looks like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, and `aws sqs "
            "get-queue-url --queue-name NAME` tells it"
        )


class Message(NamedTuple):
    """One received message; ``receive_count`` is how often it has been handed out, ``sent_ms`` when it was sent."""

    receipt: str
    body: str
    receive_count: int
    sent_ms: int


class Hidden(NamedTuple):
    """Receipts of messages that were hidden, and those that are no longer valid; SQS failed with any others."""

    hidden: list[str]
    expired: list[str]


class QueueRefused(RuntimeError):  # noqa: N818
    """SQS refuses a request for good: the queue's name or the role's rights are wrong."""


class SqsQueue:
    """One queue. Requests are repeated with back-off for ``retry_for`` seconds (None: for ever)."""

    def __init__(
        self, client: SQSClient, url: str, *, retry_for: float | None = None, visibility_s: int = VISIBILITY_S
    ) -> None:
        self.url = url
        self.visibility_s = visibility_s
        self._client = client
        self._retry = Retry(retry_for, service="SQS")

    def receive(self, wait_s: int) -> list[Message]:
        """Return up to ten messages, hidden from others for a while; none when none came within ``wait_s``."""
        answer = self._call(
            lambda: self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=self.visibility_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        )
        return [
            Message(
                found["ReceiptHandle"],
                found["Body"],
                int(found["Attributes"]["ApproximateReceiveCount"]),
                int(found["Attributes"]["SentTimestamp"]),
            )
            for found in answer.get("Messages", ())
        ]

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages and return how many; a receipt that expired leaves its message to be delivered again."""
        return sum(self._call(partial(self._delete, entries)) for entries in batches(receipts))

    def hide(self, receipts: Sequence[str], seconds: int) -> Hidden:
        """Hide at most BATCH messages for ``seconds`` from now (0: give them back).

        It is tried once, since other messages wait for their turn.
        """
        return self._call(partial(self._hide, receipts, seconds), Retry(0))

    def _delete(self, receipts: Sequence[str]) -> int:
        entries = [{"Id": str(at), "ReceiptHandle": receipt} for at, receipt in enumerate(receipts)]
        answer = self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)  # type: ignore[arg-type]
        for failed in answer.get("Failed", ()):
            if not failed["SenderFault"]:
                raise ObjectUnavailable(f"{self.url}: a message was not deleted: {failed['Code']}")
            _logger.warning("%s: a receipt has expired, its message will come again: %s", self.url, failed["Code"])
        return len(answer.get("Successful", ()))

    def _hide(self, receipts: Sequence[str], seconds: int) -> Hidden:
        answer = self._client.change_message_visibility_batch(
            QueueUrl=self.url,
            Entries=[
                {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for at, receipt in enumerate(receipts)
            ],
        )
        return Hidden(
            [receipts[int(done["Id"])] for done in answer.get("Successful", ())],
            [receipts[int(failed["Id"])] for failed in answer.get("Failed", ()) if failed["SenderFault"]],
        )

    def _call(self, action: Callable[[], T], retry: Retry | None = None) -> T:
        try:
            return (retry or self._retry).call(self.url, action)
        except ObjectRejected as error:
            raise QueueRefused(
                f"SQS refuses {self.url} ({error.__cause__ or error.reason}): check its name and region, and that this "
                "role may sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility on it"
            ) from error


def batches(receipts: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield receipts as many at a time as SQS takes in one request."""
    for begin in range(0, len(receipts), BATCH):
        yield receipts[begin : begin + BATCH]


def connect_queue(url: str, retry_for: float | None = None, visibility_s: int = VISIBILITY_S) -> SqsQueue:
    """Return a queue reached by this process's SQS client; credentials, region and endpoint as boto3 finds them."""
    return SqsQueue(_client_of(os.getpid()), url, retry_for=retry_for, visibility_s=visibility_s)


@functools.cache
def _client_of(_pid: int) -> SQSClient:
    return aws_session().client("sqs", config=CONFIG)
