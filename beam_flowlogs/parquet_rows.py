"""A Parquet flow log in, typed Arrow record batches out, some thousand rows of a row group at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from beam_flowlogs.fields import Field, field_of
from beam_flowlogs.inflate import DecodeError, Limits
from beam_flowlogs.rows import BadRow, Rows, check_rows

_IN_MEMORY = 32 << 20
"""Stored bytes kept in memory; Parquet's index stands at its end, so a larger object goes to a temporary file."""
_BATCH_ROWS = 8192


def read_parquet(chunks: Iterator[bytes], limits: Limits, slot_ms: int | None) -> Iterator[Rows]:
    """Yield the rows of a Parquet flow log; columns are known by name, whatever integer type they were written in.

    Raises DecodeError (``parquet-broken``, ``too-many-columns``, ``header-broken``, ``too-large``).
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as stored:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > limits.plain_bytes:
                raise DecodeError("too-large", f"more than {limits.plain_bytes} bytes: raise --max-plain-bytes")
            stored.write(chunk)
        stored.seek(0)
        number = 0
        try:
            file = parquet.ParquetFile(pa.PythonFile(stored, mode="r"), pre_buffer=False, buffer_size=1 << 20)
            fields = _fields(file, limits)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                rows = _typed(batch, fields, number, slot_ms)
                number += batch.num_rows
                yield rows
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, DecodeError):
                raise
            raise DecodeError("parquet-broken", f"its Parquet data is damaged after row {number} ({error})") from error


def _fields(file: parquet.ParquetFile, limits: Limits) -> tuple[Field, ...]:
    schema = file.schema_arrow
    if len(schema) > limits.columns:
        raise DecodeError("too-many-columns", f"it has {len(schema)} columns, more than {limits.columns}")
    plain = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    if plain > limits.plain_bytes:
        raise DecodeError("too-large", f"{plain} bytes unpacked, more than {limits.plain_bytes}")
    try:
        fields = tuple(field_of(name) for name in schema.names)
    except ValueError as error:
        raise DecodeError("header-broken", str(error)) from error
    for name, kind in zip(schema.names, schema.types):
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DecodeError("header-broken", f"its column {name} is of type {kind}, neither number nor text")
    if not any(field.version for field in fields) or len({field.column for field in fields}) < len(fields):
        raise DecodeError(
            "not-a-flow-log", f"its columns ({', '.join(schema.names)[:200]}) are not those of a flow log"
        )
    return fields


def _typed(batch: pa.RecordBatch, fields: tuple[Field, ...], number: int, slot_ms: int | None) -> Rows:
    numbers = np.arange(number, number + batch.num_rows)
    faults: dict[int, tuple[str, str]] = {}
    columns = [_column(column, field, faults) for column, field in zip(batch.columns, fields)]
    typed = pa.RecordBatch.from_arrays(columns, names=[field.column for field in fields])
    header = " ".join(field.name for field in fields).encode() + b"\n"

    def raw(at: int) -> bytes:
        values = (column[at].as_py() for column in batch.columns)
        return header + " ".join("-" if value is None else str(value) for value in values).encode()

    if not faults:
        return check_rows(typed, numbers, slot_ms, raw)
    bad = [BadRow(int(numbers[at]), *fault, raw(at)) for at, fault in sorted(faults.items())]
    good = np.ones(len(numbers), bool)
    good[list(faults)] = False
    places = np.flatnonzero(good)
    rows = check_rows(typed.filter(pa.array(good)), numbers[good], slot_ms, lambda at: raw(int(places[at])))
    return rows._replace(bad=[*bad, *rows.bad])


def _column(column: pa.Array, field: Field, faults: dict[int, tuple[str, str]]) -> pa.Array:
    """Return a column in its field's type, with null for ``-``, noting the rows whose value does not fit."""
    if not pa.types.is_integer(column.type):
        column = column.cast(pa.string())
        if pc.any(pc.equal(column, "-")).as_py():
            column = pc.if_else(pc.equal(column, "-"), pa.scalar(None, pa.string()), column)
    try:
        return column.cast(field.kind.arrow)
    except pa.ArrowInvalid:
        values = column.to_pylist()
        for at, value in enumerate(values):
            try:
                pa.scalar(None if value is None else int(value), field.kind.arrow)
            except (ValueError, OverflowError, pa.ArrowInvalid):
                faults[at] = ("not-a-number", f"{field.name} is {str(value)[:40]!r}")
                values[at] = None
        return pa.array([None if value is None else int(value) for value in values], field.kind.arrow)
