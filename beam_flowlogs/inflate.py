"""Stored bytes in, plain bytes out: gzip (of several members), zstd or neither, told by content and bounded.

Every piece handed on is at most ``Limits.piece_bytes`` long, so memory does not depend on the object's size or ratio.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
from isal import igzip_lib

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PARQUET_MAGIC = b"PAR1"

_RATIO_FLOOR = 64 << 20
"""Plain bytes below which no ratio is held against an object: a small file of like lines packs very well."""
_FIRST_STEP = 16 << 10
"""Bytes that a new gzip member is fed first. What follows a member is handed back: of many small ones, this much."""
_NOT_PADDING = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class Limits:
    """What one object may cost. Past a limit it is rejected with that limit's own reason; units are bytes.

    ``days`` is how far its records may lie from its delivery slot, or from its first record where no slot is known.
    ``rollups`` is how many it may contribute to: its interfaces times its windows (of the shortest length).
    """

    piece_bytes: int = 4 << 20
    line_bytes: int = 64 << 10
    columns: int = 256
    plain_bytes: int = 8 << 30
    ratio: int = 250
    days: int = 30
    rollups: int = 100_000


class DecodeError(ValueError):
    """An object, or the rest of it, that cannot be decoded. ``reason`` is a stable code, the text names the cure."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def check_size(plain: int, packed: int, limits: Limits) -> None:
    """Raise DecodeError (``too-large``, ``ratio-too-high``) if an object unpacks to more than it may, in bytes."""
    if plain > limits.plain_bytes:
        raise DecodeError(
            "too-large", f"more than {limits.plain_bytes} bytes unpacked: raise --max-plain-bytes if it is genuine"
        )
    if plain > max(_RATIO_FLOOR, packed * limits.ratio):
        raise DecodeError(
            "ratio-too-high",
            f"unpacks to more than {limits.ratio} times its size, as a decompression bomb does: "
            "raise --max-ratio if it is genuine",
        )


def peek(chunks: Iterator[bytes], size: int = 4) -> tuple[bytes, Iterator[bytes]]:
    """Return the first ``size`` bytes of a stream (fewer where it is shorter) and the whole stream again."""
    head: list[bytes] = []
    length = 0
    for chunk in chunks:
        head.append(chunk)
        length += len(chunk)
        if length >= size:
            break
    return b"".join(head)[:size], chain(head, chunks)


def inflate(chunks: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    """Yield the plain bytes of an object in pieces of at most ``limits.piece_bytes``.

    Raises DecodeError (``gzip-truncated``, ``gzip-corrupt``, ``zstd-corrupt``, ``too-large``, ``ratio-too-high``) once
    everything before the fault has been yielded.
    """
    magic, chunks = peek(chunks)
    counter = _Counter(limits)
    if magic.startswith(GZIP_MAGIC):
        pieces = _gunzip(counter.packed(chunks), limits.piece_bytes)
    elif magic.startswith(ZSTD_MAGIC):
        pieces = _unzstd(counter.packed(chunks), limits.piece_bytes)
    else:
        pieces = _cut(counter.packed(chunks), limits.piece_bytes)
    return counter.plain(pieces)


def _cut(chunks: Iterator[bytes], piece_bytes: int) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), piece_bytes):
            yield chunk[at : at + piece_bytes]


class _Counter:
    """Counts what goes in and out, and stops a stream that is past its limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._packed = 0
        self._plain = 0

    def packed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._packed += len(chunk)
            yield chunk

    def plain(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._plain += len(piece)
            check_size(self._plain, self._packed, self._limits)
            yield piece


def _gunzip(chunks: Iterator[bytes], piece_bytes: int) -> Iterator[bytes]:
    member: igzip_lib.IgzipDecompressor | None = None
    for chunk in chunks:
        at = 0
        while True:
            if member is None:
                # Zeros may stand between members and after the last, as tape and block devices leave them.
                start = _NOT_PADDING.search(chunk, at)
                if start is None:
                    break
                at = start.start()
                if chunk[at] != GZIP_MAGIC[0]:
                    raise DecodeError("gzip-corrupt", "other data follows its gzip data: upload it again")
                member, step = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), _FIRST_STEP
            fed = chunk[at : at + step] if member.needs_input else b""
            try:
                piece = member.decompress(fed, piece_bytes)
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise DecodeError("gzip-corrupt", f"its gzip data is damaged ({error}): upload it again") from error
            at += len(fed)
            if piece:
                yield piece
            if member.eof:
                at -= len(member.unused_data)
                member = None
            elif member.needs_input:
                if at == len(chunk):
                    break
                step *= 4
    if member is not None:
        raise DecodeError("gzip-truncated", "its gzip data ends early: upload it again, whole")


def _unzstd(chunks: Iterator[bytes], piece_bytes: int) -> Iterator[bytes]:
    source = _Stream(chunks)
    with pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd") as plain:
        while True:
            try:
                piece = plain.read(piece_bytes)
            except OSError as error:
                if source.error is not None:
                    raise source.error from error
                raise DecodeError("zstd-corrupt", f"its zstd data is damaged ({error}): upload it again") from error
            if not piece:
                return
            yield piece


class _Stream(io.RawIOBase):
    """The file that Arrow needs to read an iterator of chunks.

    Arrow turns what a Python source raises into its own error: ``error`` keeps the first one as it was.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._rest or next(self._chunks, b"")
        except Exception as error:
            self.error = error
            raise
        self._rest = data[size:]
        return data[:size]
