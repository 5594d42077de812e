"""JSON objects of many rows at once: columns of values in, one string array of the rows' objects out.

An object is a tree of names. Its shape is worked out once for a batch, as a sequence of literal bytes and columns;
joining that sequence is one pass of Arrow over the batch, whatever the object looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

Segment: TypeAlias = "bytes | pa.StringArray"


class Value:
    """The JSON text of one member, for every row: segments to be joined.

    A row may lack the value only when it is a single column with nulls (``optional``).
    """

    __slots__ = ("optional", "segments")

    def __init__(self, *segments: Segment) -> None:
        columns = [segment for segment in segments if not isinstance(segment, bytes)]
        self.optional = any(column.null_count for column in columns)
        self.segments: tuple[Segment, ...] = (join(segments),) if self.optional and len(segments) > 1 else segments


Tree: TypeAlias = 'Mapping[str, "Tree | Value"]'


def join(segments: Iterable[Segment], nulls: str = "emit_null") -> pa.StringArray:
    """Return each row's segments as one string; a null segment makes the row null, or nothing (``replace``)."""
    scalars = [pa.scalar(part, pa.string()) if isinstance(part, bytes) else part for part in _merged(segments)]
    return pc.binary_join_element_wise(*scalars, "", null_handling=nulls)


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    """Return the segments with neighbouring literals made one: each costs as much as a column."""
    merged: list[Segment] = []
    for segment in segments:
        if isinstance(segment, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += segment
        elif not isinstance(segment, bytes) or segment:
            merged.append(segment)
    return merged


def json_object(tree: Tree) -> Value:
    """Return the JSON object of a tree. A row without any member of an object lacks the object."""
    always: list[Segment] = []
    optional: list[Segment] = []
    for name, member in tree.items():
        value = member if isinstance(member, Value) else json_object(member)
        if not value.segments:
            continue
        segments = (b"," + orjson.dumps(name) + b":", *value.segments)
        if value.optional:
            optional.append(join(segments))
        else:
            always.extend(segments)
    if always:
        first = always[0]
        assert isinstance(first, bytes)
        return _whole(b"{" + first[1:], *always[1:], *optional, b"}")
    if not optional:
        return Value()
    members = join(optional, nulls="replace")
    present = pc.greater(pc.binary_length(members), 0)
    members = pc.if_else(present, pc.utf8_slice_codeunits(members, 1), pa.scalar(None, pa.string()))
    return Value(b"{", members, b"}")


def _whole(*segments: Segment) -> Value:
    """Return a value that every row has, though some of its segments are null: those add nothing."""
    value = Value()
    value.segments = segments
    return value


def constant(text: str) -> Value:
    """Return the same string for every row."""
    return Value(orjson.dumps(text))


def quoted(column: pa.StringArray) -> Value:
    """Return a column of text that needs no escaping as JSON strings."""
    return Value(b'"', column, b'"')


def escaped(column: pa.StringArray) -> pa.StringArray:
    """Return a column whose text may stand between JSON quotes; the column itself where nothing needs escaping."""
    data = column.buffers()[2]
    if data is None:
        return column
    text = np.frombuffer(data, np.uint8)
    if not len(text) or not ((text < 32).any() or (text == 34).any() or (text == 92).any()):
        return column
    encoded = column.dictionary_encode()
    known = [orjson.dumps(word)[1:-1].decode() for word in encoded.dictionary.to_pylist()]
    return pa.array(known, pa.string()).take(encoded.indices)
