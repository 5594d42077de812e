"""A Parquet flow log in, typed Arrow record batches out, some ten thousand rows at a time.

What the file would cost is found out before anything of it is unpacked (docs/decisions/0012).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from beam_flowlogs.fields import Field, field_of
from beam_flowlogs.inflate import PARQUET_MAGIC, DecodeError, Limits, check_size
from beam_flowlogs.parquet_columns import Column, is_text, parts_of
from beam_flowlogs.parquet_pages import RowGroup, plain_size, row_groups
from beam_flowlogs.rows import BadRows, Fault, Period, Rows, check_rows

_IN_MEMORY = 32 << 20
"""Stored bytes kept in memory; Parquet's index stands at its end, so a larger object goes to a temporary file."""
_FOOTER_BYTES = 2 << 20
"""Most that the index may take: it becomes objects many times its size."""
_LIST_ITEMS = 64 << 10
"""Most that a list in a Thrift struct may claim: Arrow makes room for all of them before it looks for the first."""
_BATCH_ROWS, _BATCH_VALUES = 32768, 1 << 19
"""Rows and values of a batch at most: what a batch costs beside its rows is felt in smaller ones."""


def read_parquet(chunks: Iterator[bytes], limits: Limits, period: Period) -> Iterator[Rows]:
    """Yield the rows of a Parquet flow log; columns are known by name, whatever integer type they were written in.

    Raises DecodeError (``parquet-broken``, ``parquet-unsupported``, ``not-a-flow-log``, ``header-broken``,
    ``too-many-columns``, ``too-large``, ``ratio-too-high``, ``page-too-large``, ``line-too-long``).
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as stored:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            check_size(size, size, limits)
            stored.write(chunk)
        number = 0
        try:
            groups = row_groups(_footer(stored, size))
            metadata = _open(stored).metadata
            fields, words = _fields(metadata, limits)
            _check_cost(stored, size, groups, len(fields), limits)
            file = _open(stored, metadata=metadata, read_dictionary=words)
            rows_each = max(1, min(_BATCH_ROWS, _BATCH_VALUES // len(fields)))
            for batch in file.iter_batches(batch_size=rows_each, use_threads=False):
                for columns in parts_of(batch, limits.line_bytes):
                    rows = _typed(columns, fields, number, period)
                    number += len(columns[0])
                    yield rows
        except DecodeError as error:
            raise DecodeError(error.reason, f"after {number} rows: {error.detail}") from error
        # What Arrow raises for damaged files; memory that it cannot get is asked for by a damaged size.
        except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError, RuntimeError) as error:
            raise DecodeError("parquet-broken", f"its Parquet data is damaged after {number} rows ({error})") from error


def _footer(stored: IO[bytes], size: int) -> bytes:
    """Return the footer, after a look at its length."""
    stored.seek(max(size - 8, 0))
    tail = stored.read(8)
    if size < 12 or tail[4:] != PARQUET_MAGIC:
        raise DecodeError("parquet-broken", "it does not end as Parquet does: upload it again, whole")
    length = int.from_bytes(tail[:4], "little")
    if length > _FOOTER_BYTES:
        raise DecodeError("too-large", f"its footer has {length} bytes: write fewer row groups")
    stored.seek(max(size - 8 - length, 0))
    return stored.read(length)


def _open(stored: IO[bytes], **options: Any) -> Any:
    return parquet.ParquetFile(
        pa.PythonFile(stored, mode="r"),
        pre_buffer=False,
        buffer_size=1 << 20,
        thrift_container_size_limit=_LIST_ITEMS,
        **options,
    )


def _fields(metadata: Any, limits: Limits) -> tuple[tuple[Field, ...], list[str]]:
    """Return the field of each column, and the names of the columns of text."""
    if metadata.num_columns > limits.columns:
        raise DecodeError("too-many-columns", f"it has {metadata.num_columns} columns, more than {limits.columns}")
    fields: list[Field] = []
    words: list[str] = []
    for name, kind in zip(metadata.schema.to_arrow_schema().names, metadata.schema.to_arrow_schema().types):
        if is_text(kind):
            words.append(name)
        elif not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise DecodeError("header-broken", f"its column {name} is of type {kind}, neither number nor text")
        try:
            fields.append(field_of(name))
        except ValueError as error:
            raise DecodeError("header-broken", str(error)) from error
    columns = [field.column for field in fields]
    if not any(field.version for field in fields):
        raise DecodeError("not-a-flow-log", f"its columns ({', '.join(columns)[:200]}) are not those of a flow log")
    if len(set(columns)) < len(columns):
        raise DecodeError("header-broken", f"some of its columns ({', '.join(columns)[:200]}) have the same name")
    return tuple(fields), words


def _check_cost(stored: IO[bytes], size: int, groups: Sequence[RowGroup], columns: int, limits: Limits) -> None:
    """Raise DecodeError if the rows that a file claims, or its pages, would cost too much."""
    # Run lengths make a billion rows of one byte. As text, a row would have at least a `-` and a space for each value.
    check_size(2 * sum(group.rows for group in groups) * columns, size, limits)
    check_size(plain_size(stored, size, groups, limits.plain_bytes), size, limits)


def _typed(columns: list[Column], fields: tuple[Field, ...], number: int, period: Period) -> Rows:
    numbers = np.arange(number, number + len(columns[0]))
    faults: dict[int, Fault] = {}
    arrays = [column.typed(field, faults) for column, field in zip(columns, fields)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[field.column for field in fields])
    header = " ".join(field.name for field in fields).encode() + b"\n"

    def raw(at: int) -> bytes:
        # A newline within a value would make two rows of it when it is read again.
        return header + b" ".join(column.text(at) or b"-" for column in columns).replace(b"\n", b" ")

    if not faults:
        return check_rows(batch, numbers, period, raw)
    bad = BadRows()
    for at, fault in sorted(faults.items()):
        bad.add(int(numbers[at]), fault, partial(raw, at))
    good = np.ones(len(numbers), bool)
    good[list(faults)] = False
    places = np.flatnonzero(good)
    return check_rows(batch.filter(pa.array(good)), numbers[good], period, lambda at: raw(int(places[at])), bad)
