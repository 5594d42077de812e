"""Plain bytes of a text flow log in, typed Arrow record batches out, a block of whole lines at a time.

The header line names the columns; nothing is guessed from their number. A block parses in one call of Arrow's CSV
reader. Only a block that it refuses is looked at line by line, to set its bad rows aside and parse the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import csv

from beam_flowlogs.fields import BY_COLUMN, Field, field_of
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rows import BadRow, Rows, check_rows

_EXPORT_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z ")
"""What CloudWatch Logs puts before every line that it exports to S3."""

_NUMBER = re.compile(rb"[0-9]{1,19}")


def read_text(
    pieces: Iterator[bytes], limits: Limits, names: Sequence[str] | None, slot_ms: int | None
) -> Iterator[Rows]:
    """Yield the rows of a text flow log; ``names`` are its fields where it has no header line.

    ``slot_ms`` is the time of records that log none.

    Raises DecodeError (``not-a-flow-log``, ``header-missing``, ``header-broken``, ``too-many-columns``,
    ``line-too-long``); what stands before a fault that comes later has been yielded by then.
    """
    blocks = _blocks(pieces, limits.line_bytes)
    first = next(blocks, b"")
    head = first.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    if is_header(head):
        fields = parse_header(head, limits)
        first = first.partition(b"\n")[2]
    elif names:
        fields = parse_header(" ".join(names).encode(), limits)
    elif not first.strip():
        return
    else:
        raise _no_header(head)
    parser = _BlockParser(fields, slot_ms, exported=bool(_EXPORT_TIME.match(head)))
    number = 0
    try:
        for block in _chain(first, blocks):
            rows, lines = parser.parse(block, number)
            number += lines
            yield rows
    except DecodeError as error:
        raise DecodeError(error.reason, f"after row {number}: {error.detail}") from error


def is_header(line: bytes) -> bool:
    """Tell whether a line names columns: it holds a known field's name, which no record ever does."""
    return any(word.replace("-", "_") in BY_COLUMN for word in line.decode("ascii", "replace").split(" "))


def parse_header(line: bytes, limits: Limits) -> tuple[Field, ...]:
    """Return the fields that a header line names. Raises DecodeError when it cannot be one."""
    words = line.decode("ascii", "replace").split()
    if len(words) > limits.columns:
        raise DecodeError("too-many-columns", f"its header names {len(words)} columns, more than {limits.columns}")
    try:
        fields = tuple(field_of(word) for word in words)
    except ValueError as error:
        raise DecodeError("header-broken", f"its header line is damaged: {error}") from error
    columns = [field.column for field in fields]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DecodeError("header-broken", f"its header line names {', '.join(twice)} more than once")
    return fields


def _no_header(head: bytes) -> DecodeError:
    start = head[:60].decode("ascii", "backslashreplace")
    if all(byte >= 32 or byte in b"\t\r" for byte in head[:1000]) and len(head.split()) > 1:
        return DecodeError(
            "header-missing",
            f"its first line ({start!r}) names no fields: give them with --format 'version account-id ...'",
        )
    return DecodeError("not-a-flow-log", f"it is neither gzip, zstd, Parquet nor text (it begins with {start!r})")


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks


def _blocks(pieces: Iterator[bytes], line_bytes: int) -> Iterator[bytes]:
    """Cut pieces into blocks of whole lines. What precedes a fault of the source is yielded before it is raised."""
    rest = b""
    fault: DecodeError | None = None
    try:
        for piece in pieces:
            end = piece.rfind(b"\n") + 1
            if end:
                yield rest + piece[:end]
                rest = piece[end:]
            else:
                rest += piece
            if len(rest) > line_bytes:
                fault = DecodeError("line-too-long", f"a line is longer than {line_bytes} bytes: is it a flow log?")
                rest = b""
                break
    except DecodeError as error:
        fault, rest = error, b""  # half a line is not a row
    if rest:
        yield rest
    if fault is not None:
        raise fault


class _BlockParser:
    def __init__(self, fields: Sequence[Field], slot_ms: int | None, *, exported: bool) -> None:
        self._fields = fields
        self._slot_ms = slot_ms
        self._header = " ".join(field.name for field in fields).encode() + b"\n"
        skipped = ["exported at"] if exported else []
        columns = [field.column for field in fields]
        self._width = len(skipped) + len(fields)
        self._skipped = len(skipped)
        self._parse = csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False)
        self._convert = csv.ConvertOptions(
            column_types={field.column: field.kind.arrow for field in fields},
            null_values=["-"],
            strings_can_be_null=True,
            include_columns=columns,
        )
        self._names = skipped + columns

    def parse(self, block: bytes, number: int) -> tuple[Rows, int]:
        """Return a block's rows, numbered from ``number`` on, and how many lines it has."""
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            batch = self._fast(block)
            if batch.num_rows == lines:
                numbers = np.arange(number, number + lines)
                return check_rows(
                    batch, numbers, self._slot_ms, lambda at: self._header + block.split(b"\n")[at]
                ), lines
        except pa.ArrowInvalid:
            pass
        return self._slow(block, number), lines

    def _fast(self, block: bytes) -> pa.RecordBatch:
        if not block:
            return pa.RecordBatch.from_pylist([], pa.schema([(f.column, f.kind.arrow) for f in self._fields]))
        read = csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(block) + 1)
        table = csv.read_csv(pa.py_buffer(block), read, self._parse, self._convert)
        return table.combine_chunks().to_batches()[0]

    def _slow(self, block: bytes, number: int) -> Rows:
        good: list[bytes] = []
        numbers: list[int] = []
        bad: list[BadRow] = []
        for row, line in enumerate(block.removesuffix(b"\n").split(b"\n"), number):
            line = line.removesuffix(b"\r")
            if not line.strip():
                continue
            fault = self._fault(line)
            if fault is None:
                good.append(line)
                numbers.append(row)
            else:
                bad.append(BadRow(row, *fault, self._header + line))
        batch = self._fast(b"\n".join([*good, b""]) if good else b"")
        rows = check_rows(batch, np.array(numbers, np.int64), self._slot_ms, lambda at: self._header + good[at])
        return rows._replace(bad=[*bad, *rows.bad])

    def _fault(self, line: bytes) -> tuple[str, str] | None:
        if b"\r" in line:
            return "stray-carriage-return", "a carriage return stands within the line"
        values = line.split(b" ")
        if len(values) != self._width:
            return "wrong-number-of-values", f"{len(values)} values where the header names {self._width}"
        for field, value in zip(self._fields, values[self._skipped :]):
            if value == b"-":
                continue
            if field.kind.is_number:
                if not _NUMBER.fullmatch(value) or int(value) >= 1 << (field.kind.arrow.bit_width - 1):
                    return "not-a-number", f"{field.name} is {value[:40].decode('utf-8', 'backslashreplace')!r}"
            elif not _is_utf8(value):
                return "not-utf-8", f"{field.name} holds bytes that are no UTF-8"
        return None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
