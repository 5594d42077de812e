"""Plain bytes of a text flow log in, typed Arrow record batches out, a block of whole lines at a time.

The header line names the columns; nothing is guessed from their number. A block parses in one call of Arrow's CSV
reader. One that Arrow refuses, or would read otherwise than line by line, is looked at by line: its bad rows are set
aside and the others parsed. So a row's fate never depends on its neighbours (docs/decisions/0010).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from beam_flowlogs import kernel
from beam_flowlogs.addresses import offsets
from beam_flowlogs.fields import BY_COLUMN, NAME, Field, field_of
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rows import BadRows, Fault, Period, Rows, check_rows, number_fault
from beam_flowlogs.text_blocks import BLANK, BOM, Block, skip_blank, text_blocks

_EXPORT_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
"""What CloudWatch Logs puts before every line that it exports to S3."""
_EXPORT_COLUMN = "exported at"
_EXPORTED = re.compile(_EXPORT_TIME.encode() + rb" ")

_KERNEL_KINDS = {pa.string(): "s", pa.int32(): "i", pa.int64(): "l"}
_BATCH_ROWS = 49152
"""Rows handed on at a time: of short lines a block holds a great many, and each becomes a document."""


def read_text(pieces: Iterator[bytes], limits: Limits, names: Sequence[str] | None, period: Period) -> Iterator[Rows]:
    """Yield the rows of a text flow log; ``names`` are its fields where it has no header line.

    ``period`` is the time that they may be of. Blank lines and repetitions of the header, as in a file put together
    from several, are numbered but no rows.

    Raises DecodeError (``not-a-flow-log``, ``header-missing``, ``header-broken``, ``header-changed``,
    ``too-many-columns``, ``line-too-long``); what stands before a fault that comes later has been yielded by then.
    """
    blocks = text_blocks(pieces, limits)
    data, blank_lines = skip_blank(blocks)
    if not data:
        return
    head = data[: data.find(b"\n")] if b"\n" in data else data
    header = head.removesuffix(b"\r")
    named = not is_header(header)
    if not named:
        fields = parse_header(header, limits)
        data = data[len(head) + 1 :]
        parser = _BlockParser(fields, header, period)
    elif names:
        header = " ".join(names).encode()
        exported = bool(_EXPORTED.match(head))
        parser = _BlockParser(parse_header(header, limits), header, period, number=blank_lines, exported=exported)
    else:
        raise _no_header(head)
    try:
        for block in chain([Block(data)] if data else [], blocks):
            for rows in parser.parse(block):
                yield replace(rows, named=named)
    except DecodeError as error:
        raise DecodeError(error.reason, f"after {parser.number} rows: {error.detail}") from error


def is_header(line: bytes) -> bool:
    """Tell whether a line names columns: every word looks like a field's name, and every second one at least is."""
    words = line.decode("ascii", "replace").split()
    known = sum(word.replace("-", "_") in BY_COLUMN for word in words)
    return 0 < len(words) <= 2 * known and all(NAME.fullmatch(word) for word in words)


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
    if all(byte >= 32 or byte in BLANK for byte in head[:1000]) and len(head.split()) > 1:
        return DecodeError(
            "header-missing",
            f"its first line ({start!r}) names no fields: give them with --format 'version account-id ...'",
        )
    return DecodeError(
        "not-a-flow-log",
        f"it is neither gzip, zstd nor Parquet, and no text of values with spaces between (it begins with {start!r})",
    )


def _even_cuts(lines: int) -> list[int]:
    """Return where to cut so many lines, none of the batches much smaller: one costs nearly as much as a full one."""
    if not lines:
        return []
    each = -(-lines // -(-lines // _BATCH_ROWS))
    return [*range(0, lines, each), lines]


def _is_ambiguous(data: bytes) -> bool:
    """Tell whether Arrow might read a block otherwise than we do.

    It takes hexadecimal numbers, trims tabs off numbers, and ends a line at a carriage return.
    """
    return (
        b"\t" in data
        or (b"x" in data and b"0x" in data)  # the short search is a hundred times faster
        or (b"X" in data and b"0X" in data)
        or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))
    )


class _BlockParser:
    """Parses block after block; ``number`` is that of the next row."""

    def __init__(
        self, fields: Sequence[Field], header: bytes, period: Period, *, number: int = 0, exported: bool = False
    ) -> None:
        self.number = number
        self._fields = fields
        self._header = header
        self._period = period
        self._exported = exported
        self._all_text = not any(field.kind.is_number for field in fields)
        columns = {field.column: field.kind.arrow for field in fields}
        types = {_EXPORT_COLUMN: pa.string(), **columns} if exported else columns
        self._names = list(types)
        self._types = list(columns.values())
        self._kinds = "".join(_KERNEL_KINDS[kind] for kind in self._types)
        self._nothing = pa.RecordBatch.from_pylist([], pa.schema(columns))
        self._parse = csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False)
        self._convert = csv.ConvertOptions(column_types=types, null_values=["-"], strings_can_be_null=True)

    def parse(self, block: Block) -> Iterator[Rows]:
        """Yield a block's rows, at most so many at a time."""
        batch = self._compiled(block.data)
        lines = len(block) if batch is None else batch.num_rows
        if batch is None and not self._needs_a_look(block.data, lines):
            batch = self._fast(block.data)
        if batch is not None and batch.num_rows == lines:
            for begin, end in pairwise(_even_cuts(lines)):
                numbers = np.arange(self.number, self.number + end - begin)
                self.number += end - begin
                raw = partial(self._kept_of, block, begin)
                yield check_rows(batch.slice(begin, end - begin), numbers, self._period, raw)
        elif lines > _BATCH_ROWS:  # then a line that is not in order costs its neighbours alone
            for begin, end in pairwise(_even_cuts(lines)):
                yield from self.parse(block.cut(begin, end))
        else:
            yield from self._slow(block)

    def _needs_a_look(self, data: bytes, rows: int) -> bool:
        # Arrow makes a value for every column of a blank line. A value and what ends it are two bytes, at the end one.
        has_short_lines = 2 * rows * len(self._names) > len(data) + 1
        # A repeated header would be a row where every column is text.
        return has_short_lines or _is_ambiguous(data) or (self._all_text and self._header in data)

    def _compiled(self, data: bytes) -> pa.RecordBatch | None:
        """Return the rows of a block that is plainly in order, without Arrow's reader and its freedoms."""
        if not kernel.compiled or self._exported or (self._all_text and self._header in data):
            return None
        parsed = kernel.compiled.parse_text(data, self._kinds)
        if parsed is None:
            return None
        rows, columns = parsed
        return pa.RecordBatch.from_arrays(
            [_column(kind, rows, *buffers) for kind, buffers in zip(self._types, columns)], schema=self._nothing.schema
        )

    def _fast(self, data: bytes) -> pa.RecordBatch | None:
        """Return the rows of a block; None if any of them is not in order."""
        if data.startswith(BOM):
            data = BOM + data  # Arrow drops one, which is data here
        read = csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(data) + 1)
        try:
            table = csv.read_csv(pa.py_buffer(data), read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        batch = table.combine_chunks().to_batches()[0]
        if any(pa.types.is_string(column.type) and _has_empty(column) for column in batch.columns):
            return None
        if self._exported:
            times = pc.match_substring_regex(batch.column(0), f"^{_EXPORT_TIME}$")
            if times.null_count or not pc.all(times).as_py():
                return None
            batch = batch.drop_columns([_EXPORT_COLUMN])
        return batch

    def _slow(self, block: Block) -> Iterator[Rows]:
        number = self.number
        self.number += len(block)
        good: list[bytes] = []
        numbers: list[int] = []
        bad = BadRows()
        changed = False
        for row, line in enumerate(map(block.line, range(len(block))), number):
            if not line.strip(BLANK) or line == self._header:
                continue
            fault = self._fault(line)
            if fault is None:
                good.append(line)
                numbers.append(row)
            elif is_header(line):
                changed, self.number = True, row
                break
            else:
                bad.add(row, fault, partial(self._kept, line))
        batch = self._fast(b"\n".join([*good, b""])) if good else self._nothing
        assert batch is not None, "rows without a fault are read"
        yield check_rows(batch, np.array(numbers, np.int64), self._period, lambda at: self._kept(good[at]), bad)
        if changed:
            raise DecodeError("header-changed", "another header follows: put files of one format together only")

    def _kept_of(self, block: Block, begin: int, at: int) -> bytes:
        """Return what is kept of a line of a block, the ``at``-th from ``begin`` on."""
        return self._kept(block.line(begin + at))

    def _kept(self, line: bytes) -> bytes:
        """Return header and line, as a bad row is kept: a text of its own."""
        return self._header + b"\n" + (_EXPORTED.sub(b"", line, count=1) if self._exported else line)

    def _fault(self, line: bytes) -> Fault | None:
        if b"\r" in line:
            return "stray-carriage-return", "a carriage return stands within the line"
        try:
            values = line.decode().split(" ")
        except UnicodeDecodeError as error:
            return "not-utf-8", f"its bytes from {error.start} on are no UTF-8"
        if self._exported:
            if not _EXPORTED.match(line):
                return "export-time-missing", "it does not begin with the time of its export, as the first line does"
            del values[0]
        if len(values) != len(self._fields):
            return "wrong-number-of-values", f"{len(values)} values where the header names {len(self._fields)}"
        for field, value in zip(self._fields, values):
            if not value:
                return "empty-value", f"{field.name} is empty: an absent value is written -"
            if field.kind.is_number and value != "-":
                fault = number_fault(field, value)
                if fault is not None:
                    return fault
        return None


def _column(kind: pa.DataType, rows: int, valid: bytes | None, bounds: bytes | None, data: bytes) -> pa.Array:
    """Return a column of the compiled parser: its validity is a byte a row."""
    nulls = None
    if valid is not None:
        nulls = pa.py_buffer(np.packbits(np.frombuffer(valid, np.uint8), bitorder="little"))
    middle = [] if bounds is None else [pa.py_buffer(bounds)]
    return pa.Array.from_buffers(kind, rows, [nulls, *middle, pa.py_buffer(data)])


def _has_empty(column: pa.StringArray) -> bool:
    """Tell whether any value is an empty string (a null is not)."""
    bounds = offsets(column)
    return np.count_nonzero(bounds[1:] == bounds[:-1]) > column.null_count
