"""Records into the bytes of a flow log file: gzip text as AWS writes it, or Parquet.

``encode_text`` and ``encode_parquet`` take any records, so that a test can write what AWS might.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from isal import igzip

from beam_flowlogs.fields import field_of

Records = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Columns by name (sequences or Arrow arrays), or a sequence of dicts. Names may have ``-`` or ``_``; None is ``-``."""

_LINES = pa.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")


def encode_text(records: Records, names: Iterable[str]) -> bytes:
    """Return ``records`` as a gzip text file: a header line with ``names``, then one line for each record.

    Values are written as they are, numbers in decimal; a missing field or None gives ``-``.
    """
    names = tuple(names)
    return text_member(_table(records, names, typed=False), header=names)


def encode_parquet(records: Records, names: Iterable[str], compression: str = "gzip") -> bytes:
    """Return ``records`` as a Parquet file with the columns of ``names``, typed by the table of fields.

    Text that stands for a number becomes one; a missing field or None is null. ``compression`` is gzip or snappy.
    """
    return parquet_file([_table(records, tuple(names), typed=True)], compression)


def text_member(table: pa.Table, header: Sequence[str] = ()) -> bytes:
    """Return ``table``'s rows as one gzip member of text, below a header line if ``header`` names the fields."""
    filled = pa.table([_without_nulls(column) for column in table.columns], names=table.column_names)
    text = io.BytesIO()
    if header:
        text.write(" ".join(header).encode() + b"\n")
    pa.csv.write_csv(filled, text, _LINES)
    # No modification time: the same records give the same bytes.
    return bytes(igzip.compress(text.getbuffer(), 1, mtime=0))


def parquet_file(tables: Iterable[pa.Table], compression: str) -> bytes:
    """Return a Parquet file with one row group for each of ``tables``, which share their schema; at least one."""
    stream = iter(tables)
    first = next(stream)
    file = io.BytesIO()
    with pa.parquet.ParquetWriter(file, first.schema, compression=compression) as writer:
        writer.write_table(first)
        for table in stream:
            writer.write_table(table)
    return file.getvalue()


def _without_nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.null_count == 0:
        return column
    return column.cast(pa.string()).fill_null("-")


def _table(records: Records, names: tuple[str, ...], *, typed: bool) -> pa.Table:
    columns = _by_column(records)
    fields = [field_of(name) for name in names]
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"the columns have different lengths: {sorted(lengths)}")
    count = lengths.pop() if lengths else 0
    arrays = []
    for field in fields:
        values = columns.get(field.column)
        array = pa.nulls(count, pa.string()) if values is None else _array(values)
        arrays.append(array.cast(field.kind.arrow) if typed else array.cast(pa.string()))
    return pa.table(arrays, names=[field.column for field in fields])


def _by_column(records: Records) -> dict[str, Any]:
    if isinstance(records, Mapping):
        return {name.replace("-", "_"): values for name, values in records.items()}
    rows = [{name.replace("-", "_"): value for name, value in record.items()} for record in records]
    # An element of ``rows`` may be empty: the length must come from somewhere.
    columns = dict.fromkeys(column for row in rows for column in row) or {"": None}
    return {column: [row.get(column) for row in rows] for column in columns}


def _array(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    return pa.array([None if value is None else str(value) for value in values], pa.string())
