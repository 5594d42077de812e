"""A queue in memory with SQS's rules for visibility and receipts, and a clock that only tests move."""

from __future__ import annotations

from typing import Any

from beam_flowlogs.sqs_queue import SqsQueue


class FakeSqs:
    """The part of boto3's SQS client that is used, for one queue."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[str] = []
        self._messages: list[dict[str, Any]] = []

    def send(self, body: str) -> None:
        self._messages.append({"body": body, "visible": self.now, "count": 0, "receipt": "", "sent": self.now})

    def visible(self) -> int:
        return sum(message["visible"] <= self.now for message in self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def receive_message(self, *, MaxNumberOfMessages: int, VisibilityTimeout: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls.append("receive")
        found = [message for message in self._messages if message["visible"] <= self.now][:MaxNumberOfMessages]
        for message in found:
            message["count"] += 1
            message["receipt"] = f"{id(message)}-{message['count']}"
            message["visible"] = self.now + VisibilityTimeout
        return {
            "Messages": [
                {
                    "ReceiptHandle": message["receipt"],
                    "Body": message["body"],
                    "Attributes": {
                        "ApproximateReceiveCount": str(message["count"]),
                        "SentTimestamp": str(int(message["sent"] * 1000)),
                    },
                }
                for message in found
            ]
        }

    def delete_message_batch(self, *, Entries: list[dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls.append("delete")
        good, bad = self._known(Entries)
        self._messages = [message for message in self._messages if message["receipt"] not in good.values()]
        return _answer(good, bad)

    def change_message_visibility_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls.append("hide")
        good, bad = self._known(Entries)
        seconds = {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
        for message in self._messages:
            if message["receipt"] in good.values():
                message["visible"] = self.now + seconds[message["receipt"]]
        return _answer(good, bad)

    def _known(self, entries: list[dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
        assert 0 < len(entries) <= 10, "SQS takes one to ten at a time"
        valid = {message["receipt"] for message in self._messages if message["visible"] > self.now}
        good = {entry["Id"]: entry["ReceiptHandle"] for entry in entries if entry["ReceiptHandle"] in valid}
        return good, [entry["Id"] for entry in entries if entry["Id"] not in good]


def _answer(good: dict[str, str], bad: list[str]) -> dict[str, Any]:
    failed = [{"Id": at, "SenderFault": True, "Code": "ReceiptHandleIsInvalid"} for at in bad]
    return {"Successful": [{"Id": at} for at in good], "Failed": failed}


def receive_all(sqs: FakeSqs, queue: SqsQueue, count: int) -> list[str]:
    """Send so many messages, receive all that are visible, and return their receipts."""
    for number in range(count):
        sqs.send(f"message {number}")
    found = []
    while messages := queue.receive(0):
        found += [message.receipt for message in messages]
    return found
