"""Parts of roll-ups in, the bytes that cross a shuffle out, and back: those of one object and window, many together.

What a runner does for an element costs it more than all that we do for a part. So an object's parts of one window
travel by shard, a fixed share of all keys, and what they have in common is said once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from beam_flowlogs.rollup import DIMENSIONS, PARTS_VERSION, Part, RollUpKey, to_json

SHARDS = 64
"""Shares into which the keys of a window are divided: as many workers at most merge the roll-ups of one window."""

_TOGETHER = 1000
"""Parts of one element at most: some 200 KB."""


class OtherVersionError(ValueError):
    """Parts were encoded by a version that writes them otherwise: they are not to be understood here."""


class Shard(NamedTuple):
    """A share of the roll-ups of one window: ``window_s`` long, from ``start`` in Unix seconds."""

    window_s: int
    start: int
    number: int

    def encode(self) -> str:
        """Return the key under which its parts cross a shuffle."""
        return orjson.dumps(tuple(self)).decode()

    @classmethod
    def decode(cls, text: str) -> Shard:
        """Return the shard that ``encode`` made the text of."""
        return cls(*orjson.loads(text))


def shard_number(key_type: str, key: str) -> int:
    """Return the shard of a key, the same for all its windows."""
    return crc32(f"{key_type}-{key}".encode()) % SHARDS


def encode_parts(parts: Iterable[tuple[RollUpKey, Part]]) -> Iterator[tuple[Shard, int, bytes]]:
    """Yield parts by their shard: how many there are, and the bytes that ``decode_parts`` understands."""
    together: dict[tuple[int, int, int, str], list[tuple[RollUpKey, Part]]] = {}
    numbers: dict[tuple[str, str], int] = {}
    for found in parts:
        key, part = found
        number = numbers.get(key[2:])
        if number is None:
            number = numbers[key[2:]] = shard_number(key.key_type, key.key)
        together.setdefault((key.window_s, key.start, number, part.object_id), []).append(found)
    for (*shard, object_id), group in together.items():
        for begin in range(0, len(group), _TOGETHER):
            some = group[begin : begin + _TOGETHER]
            yield Shard(*shard), len(some), _encode(object_id, some)


def _encode(object_id: str, parts: Sequence[tuple[RollUpKey, Part]]) -> bytes:
    said: dict[tuple[str, ...], int] = {}
    rows = [
        (
            key.key_type,
            key.key,
            said.setdefault(tuple([part.dimensions.get(name, "") for name in DIMENSIONS]), len(said)),
            part.counters,
            part.first_seen,
            part.last_seen,
            part.details,
        )
        for key, part in parts
    ]
    return to_json([PARTS_VERSION, object_id, list(said), rows])


def decode_parts(shard: Shard, data: bytes) -> list[tuple[RollUpKey, Part]]:
    """Return the parts that ``encode_parts`` made the bytes of, in their order. Raises OtherVersionError."""
    content: Any = orjson.loads(data)
    if content[0] != PARTS_VERSION:
        raise OtherVersionError(f"parts of version {content[0]!r}, where this release writes {PARTS_VERSION}")
    _, object_id, said, rows = content
    dimensions = [{name: value for name, value in zip(DIMENSIONS, values) if value} for values in said]
    window_s, start, _ = shard
    return [
        (
            RollUpKey(window_s, start, key_type, key),
            Part(object_id, counters, first_seen, last_seen, dimensions[place], details),
        )
        for key_type, key, place, counters, first_seen, last_seen, details in rows
    ]
