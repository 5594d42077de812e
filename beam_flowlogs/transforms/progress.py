"""What is known of the messages under way: small records that travel with the data and are counted at the end.

A message is done when all its objects are indexed and every part that they gave is merged. ``NO_MESSAGE`` is the token
of objects that no message announced: nothing is counted for them.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

NO_MESSAGE = ""


class Progress(NamedTuple):
    """An addition to what is known of one message, under its token.

    ``queue_url``, ``receipt``, ``announced`` (how many objects) and ``sent_ms`` are told once, at its receipt.
    ``indexed`` counts objects whose raw documents are durable, ``parts`` what they gave, ``merged`` the parts durable
    in their roll-ups.
    """

    queue_url: str = ""
    receipt: str = ""
    announced: int = 0
    indexed: int = 0
    parts: int = 0
    merged: int = 0
    sent_ms: int = 0

    def plus(self, other: Progress) -> Progress:
        """Return both together."""
        return Progress(
            self.queue_url or other.queue_url,
            self.receipt or other.receipt,
            self.announced + other.announced,
            self.indexed + other.indexed,
            self.parts + other.parts,
            self.merged + other.merged,
            max(self.sent_ms, other.sent_ms),
        )

    @property
    def done(self) -> bool:
        """Whether everything made from the message is durable."""
        return bool(self.receipt) and self.indexed == self.announced and self.merged == self.parts

    def encode(self) -> bytes:
        """Return the bytes that cross a shuffle."""
        return orjson.dumps(tuple(self))

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """Return what ``encode`` made the bytes of."""
        return cls(*orjson.loads(data))
