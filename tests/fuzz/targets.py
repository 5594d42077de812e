"""What is fuzzed: a target takes bytes and raises only when something is wrong with us, not with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import NamedTuple
from unittest.mock import patch

import orjson

from beam_flowlogs import kernel
from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.inflate import PARQUET_MAGIC, DecodeError, Limits
from beam_flowlogs.notification import KEY_LIMIT, NotificationRejected, parse_notification
from beam_flowlogs.object_key import SlotRange, parse_key
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rows import Rows
from beam_flowlogs.times import TimeRange

Target = Callable[[bytes], None]

SLOT_MS = 1_764_000_000_000
SLOTS = SlotRange(
    TimeRange(datetime.fromtimestamp(SLOT_MS / 1000, timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc))
)
LIMITS = Limits(piece_bytes=4096, plain_bytes=16 << 20)
SMALL_PIECES = Limits(piece_bytes=61, plain_bytes=16 << 20)
NAMES = ("end", "srcaddr", "bytes", "action")
ORIGIN = Origin("a-bucket", "a/key", "A" * 16, "123456789012", "eu-west-1")


def notification(data: bytes) -> None:
    """The body of a message: objects that S3 could have, or a reject."""
    with suppress(NotificationRejected):
        for ref in parse_notification(data.decode(errors="surrogateescape")):
            assert 0 < len(ref.key.encode()) <= KEY_LIMIT
            assert ref.bucket
            parse_key(ref.key)
            SLOTS.holds(ref.key)
            assert (SLOTS.next_key(ref.key) or ref.key) >= ref.key


def text(data: bytes) -> None:
    """A text object, packed or not. Its first byte says how it is read: with a header or by names, with a slot or not.

    Neither the cut of the stream nor that of the blocks may change what becomes of a row, nor whether compiled loops or
    their twins in Python do it. (Of damaged gzip, how it is cut decides how much comes out before the damage is seen.)
    """
    if not data or data[1:].startswith(PARQUET_MAGIC):
        return
    names = NAMES if data[0] & 1 else None
    slot_ms = SLOT_MS if data[0] & 2 else None

    def read() -> _Decoded:
        return _decoded(decode(iter([data[1:]]), LIMITS, names=names, slot_ms=slot_ms))

    whole = read()
    _hold_against_the_twins(whole, read)
    chunks = (data[at : at + 37] for at in range(1, len(data), 37))
    cut = _decoded(decode(chunks, SMALL_PIECES, names=names, slot_ms=slot_ms))
    fates, others = _fates(whole), _fates(cut)
    assert bool(cut.reason) == bool(whole.reason)
    assert all(fate == other for fate, other in zip(fates, others))
    assert whole.reason or len(fates) == len(others)


def parquet(data: bytes) -> None:
    """A Parquet object."""

    def read() -> _Decoded:
        return _decoded(decode(iter([PARQUET_MAGIC + data]), LIMITS, slot_ms=SLOT_MS))

    _hold_against_the_twins(read(), read)


class _Decoded(NamedTuple):
    """What came out of an object, and why it ended early, if it did."""

    batches: list[Rows]
    reason: str


def _decoded(batches: Iterator[Rows]) -> _Decoded:
    found: list[Rows] = []
    reason = ""
    try:
        found.extend(batches)
    except DecodeError as error:
        reason = error.reason
    return _Decoded(found, reason)


def _fates(decoded: _Decoded) -> list[object]:
    """Return what became of the rows, in their order: their values and time, or why they are bad."""
    fates: list[tuple[int, object]] = []
    for rows in decoded.batches:
        assert rows.batch.num_rows == len(rows.numbers) == len(rows.times)
        fates += zip(rows.numbers.tolist(), zip(rows.batch.to_pylist(), rows.times.tolist()))
        fates += ((bad.number, bad) for bad in rows.bad)
    fates.sort(key=lambda fate: fate[0])
    numbers = [number for number, _ in fates]
    assert len(set(numbers)) == len(numbers), "two rows have one number"
    return [fate for _, fate in fates]


def _hold_against_the_twins(decoded: _Decoded, read: Callable[[], _Decoded]) -> None:
    """Take the way of what was read with the compiled loops, where there are any, and once more without them."""
    fates, made = _fates(decoded), _take_the_way(decoded)
    if kernel.compiled is None:
        return
    with patch.object(kernel, "compiled", None):
        again = read()
        assert again.reason == decoded.reason
        assert _fates(again) == fates
        assert _take_the_way(again) == made


def _take_the_way(decoded: _Decoded) -> list[object]:
    """Make and return what is made of an object without a server: documents, and parts of roll-ups."""
    made: list[object] = []
    parts = PartsOfObject(ORIGIN, JobConfig.windows, "fl-1", details=True)
    for rows in decoded.batches:
        if rows.batch.num_rows:
            # As JSON: the twins may write members in another order.
            items = [[*map(orjson.loads, item.splitlines())] for item in bulk_items(rows, ORIGIN).to_pylist()]
            made += items
            assert len(items) == rows.batch.num_rows
            for number, (action, document) in zip(rows.numbers.tolist(), items):
                assert set(action) == {"create"}
                assert document["log"]["offset"] == number
        assert all(bad.reason and bad.data for bad in rows.bad)
        parts.add(rows)
    return [*made, *parts.finish()]


TARGETS: Mapping[str, Target] = {"notification": notification, "text": text, "parquet": parquet}
