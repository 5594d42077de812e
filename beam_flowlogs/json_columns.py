"""JSON objects of many rows at once: columns of values in, one string array of the rows' objects out.

An object is a tree of names. Its shape is worked out once for a batch, as a sequence of literal bytes and columns;
joining that sequence is one pass over the batch, whatever the object looks like. The pass costs as much as the sequence
is long, so members of few distinct values stand first in their object, side by side, where they are made one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.coded import Coded, fold
from beam_flowlogs.kernel import number_buffers, string_buffers
from beam_flowlogs.spare_memory import room

Segment: TypeAlias = "bytes | Coded | pa.StringArray | pa.IntegerArray | Group"
"""Numbers are what ``decimal`` gives."""
Segments: TypeAlias = "Sequence[Segment]"


class Group(NamedTuple):
    """Segments that the compiled ``join`` brings together, so that they need not be a column before.

    As ``all_or_none`` has them, or as ``listed``.
    """

    segments: Segments
    is_listed: bool


_SMALL_NUMBERS = pa.array([str(number) for number in range(1 << 16)])
"""The text of numbers that most ports, packets and rows have: to look one up takes a quarter of writing it."""


class Value:
    """The JSON text of one member, for every row: segments to be joined.

    A row may lack the value only when it is a single column with nulls (``optional``).
    """

    __slots__ = ("optional", "segments")

    def __init__(self, *segments: Segment) -> None:
        self.optional = any(map(has_nulls, segments))
        self.segments: Segments = (all_or_none(segments),) if self.optional and len(segments) > 1 else segments

    @property
    def is_coded(self) -> bool:
        """Whether there are few distinct values."""
        return all(map(_is_coded, self.segments))

    @property
    def codes_key(self) -> int:
        """Stands for the codes that say its value first, for as long as they are held; 0 where none do."""
        return next(filter(None, map(_codes_of, self.segments)), 0)


Tree: TypeAlias = 'Mapping[str, "Tree | Value"]'


def join(segments: Segments, nulls: str = "emit_null") -> pa.StringArray:
    """Return each row's segments as one string; a null segment makes the row null, or nothing (``replace``)."""
    if kernel.compiled and nulls == "replace":
        return _joined(segments)
    return pc.binary_join_element_wise(*map(_operand, fold(segments, nulls)), "", null_handling=nulls)


def _joined(segments: Segments) -> pa.StringArray:
    """Do what Arrow's join does, which finds out anew for each segment of each row of what kind it is."""
    known: dict[int, Any] = {}  # a column stands in several members
    join = kernel.compiled.Join([_given(segment, known) for segment in segments])
    text, edges = room(join.size), np.empty(join.rows + 1, np.int32)
    join.write(text, edges)
    return pa.StringArray.from_buffers(join.rows, pa.py_buffer(edges), pa.py_buffer(text))


def _given(segment: Segment, known: dict[int, Any]) -> Any:
    if isinstance(segment, bytes):
        return segment
    if isinstance(segment, Group):
        return segment.is_listed, [_given(within, known) for within in segment.segments]
    if id(segment) not in known:
        if isinstance(segment, Coded):
            known[id(segment)] = *string_buffers(segment.values), np.ascontiguousarray(segment.codes, np.int32)
        elif pa.types.is_integer(segment.type):
            known[id(segment)] = number_buffers(segment)
        else:
            known[id(segment)] = *string_buffers(segment), None
    return known[id(segment)]


def _operand(segment: Segment) -> pa.Scalar | pa.StringArray:
    if isinstance(segment, bytes):
        return pa.scalar(segment, pa.string())
    return segment.rows() if isinstance(segment, Coded) else segment


def has_nulls(segment: Segment) -> bool:
    """Tell whether any row may lack a segment."""
    if isinstance(segment, bytes):
        return False
    if isinstance(segment, Group):
        return True
    return bool((segment.values if isinstance(segment, Coded) else segment).null_count)


def _is_coded(segment: Segment) -> bool:
    if isinstance(segment, Group):
        return all(map(_is_coded, segment.segments))
    return isinstance(segment, (bytes, Coded))


def _codes_of(segment: Segment) -> int:
    if isinstance(segment, Group):
        return next(filter(None, map(_codes_of, segment.segments)), 0)
    return id(segment.codes) if isinstance(segment, Coded) else 0


def all_or_none(segments: Segments) -> Coded | pa.StringArray | Group:
    """Return segments as one, which is null where any of them is; coded where they all are."""
    if kernel.compiled:
        return Group(segments, is_listed=False)
    folded = fold(segments, "emit_null")
    return folded[0] if len(folded) == 1 and isinstance(folded[0], Coded) else join(folded)


def json_object(tree: Tree) -> Value:
    """Return the JSON object of a tree. A row without any member of an object lacks the object."""
    members = [(name, member if isinstance(member, Value) else json_object(member)) for name, member in tree.items()]
    places: dict[int, int] = {}  # of those that are coded, the ones with the same codes side by side
    members.sort(
        key=lambda member: places.setdefault(member[1].codes_key, len(places)) if member[1].is_coded else len(members)
    )
    always: list[Segments] = []
    optional: list[Coded | pa.StringArray | Group] = []
    for name, value in members:
        segments = (b"," + orjson.dumps(name) + b":", *value.segments)
        if value.segments and value.optional:
            optional.append(all_or_none(segments))
        elif value.segments:
            always.append(segments)
    if always:
        coded = [column for column in optional if _is_coded(column)]
        others = [column for column in optional if not _is_coded(column)]
        (opening, *first), *rest = always
        assert isinstance(opening, bytes)
        return _whole(b"{" + opening[1:], *first, *coded, *chain.from_iterable(rest), *others, b"}")
    return Value(b"{", _listed(optional), b"}") if optional else Value()


def json_array(elements: Sequence[Value]) -> Value:
    """Return the JSON array of elements, in their order. A row without any of them lacks the array."""
    first, *others = elements
    if not any(element.optional for element in elements):
        return Value(b"[", *first.segments, *chain.from_iterable((b",", *other.segments) for other in others), b"]")
    members = _listed([all_or_none((b",", *element.segments)) for element in elements])
    is_optional = all(element.optional for element in elements)
    return Value(b"[", members, b"]") if is_optional else _whole(b"[", members, b"]")


def _listed(members: Segments) -> Coded | pa.StringArray | Group:
    """Return members without the comma before the first; null where there is none."""
    if kernel.compiled:
        return Group(members, is_listed=True)
    folded = fold(members, "replace")
    if len(folded) == 1 and isinstance(folded[0], Coded):
        return folded[0].map(_without_comma)
    return _without_comma(join(folded, "replace"))


def _without_comma(members: pa.StringArray) -> pa.StringArray:
    present = pc.greater(pc.binary_length(members), 0)
    return pc.if_else(present, pc.utf8_slice_codeunits(members, 1), pa.scalar(None, pa.string()))


def _whole(*segments: Segment) -> Value:
    """Return a value that every row has, though some of its segments are null: those add nothing."""
    value = Value()
    value.segments = segments
    return value


def constant(text: str) -> Value:
    """Return the same string for every row."""
    return Value(orjson.dumps(text))


def quoted(column: Coded | pa.StringArray) -> Value:
    """Return a column of text that needs no escaping as JSON strings."""
    return Value(b'"', column, b'"')


def decimal(column: Coded | pa.IntegerArray) -> Coded | pa.Array:
    """Return numbers, none of them negative, as a segment: their text, or as they are where joining writes it."""
    if isinstance(column, Coded):
        return column.map(lambda values: values.cast(pa.string()))
    if kernel.compiled:
        return column
    small = len(column) == column.null_count or pc.max(column).as_py() < len(_SMALL_NUMBERS)
    return _SMALL_NUMBERS.take(column) if small else column.cast(pa.string())


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
