"""A flow log's stored bytes in, typed Arrow record batches out, told apart by content: text or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from beam_flowlogs.inflate import PARQUET_MAGIC, Limits, inflate, peek
from beam_flowlogs.parquet_rows import read_parquet
from beam_flowlogs.rows import Period, Rows
from beam_flowlogs.text_rows import read_text


def decode(
    chunks: Iterator[bytes],
    limits: Limits,
    *,
    names: Sequence[str] | None = None,
    slot_ms: int | None = None,
    written_ms: int | None = None,
) -> Iterator[Rows]:
    """Yield the rows of one object in batches that fit the cache; bad rows come beside the good ones.

    ``names`` are the fields of a text that has no header line, ``slot_ms`` the time of records that log none,
    ``written_ms`` when the object was written (Unix milliseconds, None: unknown). Raises DecodeError for what the whole
    object, or all after some row, cannot be; every row before it has been yielded by then. What ``chunks`` itself
    raises passes through.
    """
    period = Period(slot_ms, written_ms, limits.days)
    magic, chunks = peek(chunks)
    if magic == PARQUET_MAGIC:
        return read_parquet(chunks, limits, period)
    return read_text(inflate(chunks, limits), limits, names, period)
