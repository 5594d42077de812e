"""Pieces of plain bytes in, blocks of whole lines out: the lines of a text, many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from beam_flowlogs.inflate import DecodeError, Limits

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
_NEWLINE = ord("\n")


@dataclass(frozen=True)
class Block:
    """Whole lines; the last one may lack its newline where the data ends."""

    data: bytes

    def __len__(self) -> int:
        newlines = np.count_nonzero(np.frombuffer(self.data, np.uint8) == _NEWLINE)  # a fifth of bytes.count
        return newlines + (not self.data.endswith(b"\n"))

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == _NEWLINE)
        return ends if self.data.endswith(b"\n") else np.append(ends, len(self.data))

    def line(self, at: int) -> bytes:
        """Return one line, without its end."""
        return self.data[self._start(at) : self._ends[at]].removesuffix(b"\r")

    def cut(self, begin: int, end: int) -> Block:
        """Return some of the lines."""
        return Block(self.data[self._start(begin) : self._start(end)])

    def _start(self, at: int) -> int:
        return int(self._ends[at - 1]) + 1 if at else 0


def skip_blank(blocks: Iterator[Block]) -> tuple[bytes, int]:
    """Return the first block from its first line that is not blank on (empty if there is none), and the lines before.

    A byte order mark is no part of the first line.
    """
    blank_lines = 0
    for block in blocks:
        data = block.data.removeprefix(BOM)
        content = data.lstrip(BLANK)
        if content:
            start = data.rfind(b"\n", 0, len(data) - len(content)) + 1
            return data[start:], blank_lines + data.count(b"\n", 0, start)
        blank_lines += len(block)
    return b"", blank_lines


def text_blocks(pieces: Iterator[bytes], limits: Limits) -> Iterator[Block]:
    """Cut pieces into blocks of whole lines. What precedes a fault is yielded before it is raised."""
    line_bytes = limits.line_bytes
    rest = b""
    for piece in _gathered(pieces, limits.piece_bytes * 3 // 4):
        end = piece.rfind(b"\n") + 1
        lines = b"".join((rest, memoryview(piece)[:end])) if end else b""
        rest = piece[end:] if end else rest + piece
        sound = _of_lines_up_to(line_bytes, lines)
        if sound:
            yield Block(lines if sound == len(lines) else lines[:sound])
        if sound < len(lines) or len(rest) > line_bytes:
            raise DecodeError("line-too-long", f"a line is longer than {line_bytes} bytes: is it a flow log?")
    if rest:
        yield Block(rest)


def _of_lines_up_to(line_bytes: int, data: bytes) -> int:
    """Return where the first line of more than ``line_bytes`` begins; if none, the end. Whole lines are given."""
    start = 0
    while start < len(data):
        newline = data.rfind(b"\n", start, start + line_bytes + 1)
        if newline < 0:
            break
        start = newline + 1
    return start


def _gathered(pieces: Iterator[bytes], least: int) -> Iterator[bytes]:
    """Join pieces to ``least`` bytes or more, as every batch has its price."""
    held: list[bytes] = []
    size = 0
    fault: DecodeError | None = None
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= least:
                yield b"".join(held)
                held, size = [], 0
    except DecodeError as error:
        fault = error
    if held:
        yield b"".join(held)
    if fault is not None:
        raise fault
