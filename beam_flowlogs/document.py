"""Rows of a flow log in, Elasticsearch bulk items out: an ECS document a row, rendered column by column.

The shape is that of Elastic's own VPC flow integration; which logged field goes where is said in ``fields``. A ``-``
never reaches a document: the member is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.coded import Coded, coded
from beam_flowlogs.community_id import community_ids
from beam_flowlogs.fields import BY_COLUMN, NAMESPACE, TCP_FLAGS, Field, Kind, field_of
from beam_flowlogs.json_columns import Segment, Value, constant, decimal, escaped, join, json_array, json_object, quoted
from beam_flowlogs.protocols import PROTOCOLS
from beam_flowlogs.row_classes import TOLD
from beam_flowlogs.rows import Rows, milliseconds

RAW_INDEX_PREFIX = "flowlogs-raw-"
_ADDRESS_COLUMNS = tuple(field.column for field in BY_COLUMN.values() if field.kind is Kind.ADDRESS)

_TRANSPORTS = pa.array([PROTOCOLS.get(number) for number in range(256)], pa.string())
_NAMED_BITS = sum(TCP_FLAGS.values())
_FLAG_ARRAYS = pa.array(
    [
        "[" + ",".join(f'"{name}"' for name, bit in TCP_FLAGS.items() if flags & bit) + "]" if flags else None
        for flags in range(_NAMED_BITS + 1)
    ]
)
_ACTIONS = pa.array(["ACCEPT", "REJECT"])
_OUTCOMES = pa.array(["success", "failure"])
_TYPES = pa.array(['["connection","allowed"]', '["connection","denied"]'])
_FAMILIES = pa.array(["ipv4", "ipv6", None])
_DAY_MS = 86_400_000
_VARIED = ("srcport", "dstport", "packets", "bytes")
"""Columns of so many values that nothing is gained by looking for few."""

_MOST_TOGETHER = 1024
"""Combinations of values beyond which columns are rendered each by itself."""

Column: TypeAlias = "Coded | pa.Array"

_URL_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)
_URL_PAIRS = np.stack([np.repeat(_URL_ALPHABET, 64), np.tile(_URL_ALPHABET, 64)], axis=1).reshape(-1).view(np.uint16)
"""Two characters for each value of twelve bits."""


@dataclass(frozen=True)
class Origin:
    """Where rows come from: their object, its identity, and what its key tells of account and region."""

    bucket: str
    key: str
    object_id: str
    account_id: str = ""
    region: str = ""


def bulk_items(rows: Rows, origin: Origin) -> pa.BinaryArray:
    """Return a bulk item (action line and document, each ended by a newline) for each of at least one row.

    An item creates the document that ``row_ids`` names in the index of the row's day: sent twice, it changes nothing.
    """
    lacking = rows.columns["srcaddr"].null_count if "srcaddr" in rows.columns else 0
    if kernel.compiled or not 0 < lacking < rows.batch.num_rows:
        return _items(rows, origin)
    # Arrow joins what is optional member by member. Rows without traffic lack most of their members together.
    there = pc.is_valid(rows.columns["srcaddr"]).to_numpy(zero_copy_only=False)
    items = pa.concat_arrays([_items(rows.pick(there), origin), _items(rows.pick(~there), origin)])
    return items.take(pa.array(np.where(there, np.cumsum(there), len(there) - lacking + np.cumsum(~there)) - 1))


def _items(rows: Rows, origin: Origin) -> pa.BinaryArray:
    documents = _Documents(rows, origin)
    document = json_object(documents.tree())
    action = (f'{{"create":{{"_index":"{RAW_INDEX_PREFIX}'.encode(), documents.days(), b'","_id":"')
    ids = row_ids(origin, rows.numbers)
    items = join((*action, *ids, b'"}}\n', *document.segments, b"\n"), nulls="replace")
    return pa.BinaryArray.from_buffers(pa.binary(), len(items), items.buffers(), items.null_count, items.offset)


def row_ids(origin: Origin, numbers: npt.NDArray[np.int64]) -> tuple[bytes, pa.StringArray]:
    """Return the rows' document ids in two pieces: the object's identity, and the row number in URL-safe base64.

    Twenty characters for the first 2**24 rows: Elasticsearch stores such ids in fifteen bytes. ``numbers`` ascend.
    """
    short = int(np.searchsorted(numbers, 1 << 24))  # by row, not by batch: the next attempt may cut batches elsewhere
    texts = [_base64(part, width) for part, width in ((numbers[:short], 4), (numbers[short:], 8)) if len(part)]
    return origin.object_id.encode(), pa.concat_arrays(texts) if texts else pa.array([], pa.string())


def _base64(numbers: npt.NDArray[np.int64], width: int) -> pa.StringArray:
    shifts = range(6 * (width - 2), -1, -12)
    text = np.stack([_URL_PAIRS.take(numbers >> shift & 0xFFF) for shift in shifts], axis=1)
    offsets = np.arange(0, (len(numbers) + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


class _Documents:
    """The members of a batch's documents; each column is turned into text once, however many members show it."""

    def __init__(self, rows: Rows, origin: Origin) -> None:
        self._rows = rows
        self._origin = origin
        self._columns: dict[str, pa.Array] = {
            name: column for name, column in rows.columns.items() if column.null_count < rows.batch.num_rows
        }
        self._addresses = [name for name in _ADDRESS_COLUMNS if name in self._columns]
        self._values: dict[str, Column] = {
            name: column if name in _VARIED or name in self._addresses else rows.by_value(name)
            for name, column in self._columns.items()
        }
        self._values |= self._together()
        self._text = {name: self._as_text(name, column) for name, column in self._values.items()}
        end = self._columns.get("end")
        self._times = _by_value(rows.times) if end is None or end.null_count else self._milliseconds("end")

    def _together(self) -> dict[str, Coded]:
        """Return the columns that have few values together by the combinations of these, which makes joining easy."""
        rows, at = self._rows.combined(TOLD)
        if len(rows) > _MOST_TOGETHER:
            return {}
        known = {name: self._values[name] for name in TOLD if name in self._values}
        return {
            name: Coded(at, column.values.take(pa.array(column.codes[rows])))
            for name, column in known.items()
            if isinstance(column, Coded)
        }

    def days(self) -> Segment:
        """Return the rows' days, in UTC, as they stand in the names of indices."""
        times = self._rows.times
        if len(times) and times.min() // _DAY_MS == times.max() // _DAY_MS:
            return _days(pa.array(times[:1]))[0].as_py().encode()
        return _mapped(self._times, _days)

    def tree(self) -> dict[str, Any]:
        """Return the document's members as a tree of their paths."""
        members: dict[str, Value] = {"@timestamp": _iso(self._times)}
        members |= self._event()
        for name in self._columns:
            field = field_of(name)
            members |= {path: self._copy(field, es_type) for path, es_type in field.copies.items()}
        members |= self._network() | self._cloud()
        if self._addresses:
            members["related.ip"] = self._related()
        for name, text in self._text.items():
            field = field_of(name)
            members[field.path] = Value(text) if field.kind.is_number else quoted(text)
        if "tcp_flags" in self._columns:
            names = _mapped(self._values["tcp_flags"], lambda f: _FLAG_ARRAYS.take(pc.bit_wise_and(f, _NAMED_BITS)))
            members[f"{NAMESPACE}.tcp_flags_array"] = Value(names)
        members["aws.s3.bucket.name"] = constant(self._origin.bucket)
        members["aws.s3.object.key"] = constant(self._origin.key)
        members["log.offset"] = Value(decimal(pa.array(self._rows.numbers)))
        return _nested(members)

    def _as_text(self, name: str, column: Column) -> Column:
        if field_of(name).kind.is_number:
            return decimal(column)
        return column if name in self._addresses else _mapped(column, escaped)

    def _milliseconds(self, name: str) -> Column:
        return _mapped(self._values[name], milliseconds)

    def _copy(self, field: Field, es_type: str) -> Value:
        if es_type == "date":
            return _iso(self._milliseconds(field.column))
        text = self._text[field.column]
        return Value(text) if es_type == "long" else quoted(text)

    def _event(self) -> dict[str, Value]:
        event = {"event.kind": constant("event"), "event.category": Value(b'["network"]')}
        if "action" not in self._columns:
            return event | {"event.type": Value(b'["connection"]')}
        known = _mapped(self._values["action"], lambda action: pc.index_in(action, value_set=_ACTIONS))
        types = _mapped(known, lambda at: pc.fill_null(_TYPES.take(at), '["connection"]'))
        return event | {"event.type": Value(types), "event.outcome": quoted(_mapped(known, _OUTCOMES.take))}

    def _network(self) -> dict[str, Value]:
        network: dict[str, Value] = {}
        if "protocol" in self._columns:
            network["network.transport"] = quoted(_mapped(self._values["protocol"], _TRANSPORTS.take))
        if self._addresses:
            network["network.type"] = self._family()
        flow = ("srcaddr", "dstaddr", "protocol", "srcport", "dstport")
        if all(name in self._columns for name in flow):
            source, destination = (self._rows.addresses[name] for name in flow[:2])
            numbers = [_numbers(self._columns[name]) for name in flow[2:]]
            ids = community_ids(source, destination, *numbers)
            logged = [pc.is_valid(self._columns[name]) for name in flow[2:] if self._columns[name].null_count]
            network["network.community_id"] = quoted(_nulled_unless(ids, *logged))
        return network

    def _family(self) -> Value:
        """Return the family of each row's first address."""
        known = [self._rows.addresses[name] for name in self._addresses]
        valid, is_v6 = known[0].valid, known[0].is_v6
        for other in known[1:]:
            if valid.all():
                break
            is_v6 = np.where(valid, is_v6, other.is_v6)
            valid = valid | other.valid
        if not valid.all():
            return quoted(Coded(np.where(valid, is_v6, 2), _FAMILIES))
        if is_v6.all() == is_v6.any():
            return constant("ipv6" if is_v6[0] else "ipv4")
        return quoted(Coded(is_v6.astype(np.int32), _FAMILIES[:2]))

    def _cloud(self) -> dict[str, Value]:
        cloud = {"cloud.provider": constant("aws")}
        for path, name, known in (
            ("cloud.account.id", "account_id", self._origin.account_id),
            ("cloud.region", "region", self._origin.region),
        ):
            if name in self._columns:
                unlogged = "unknown" if name == "account_id" else ""
                cloud[path] = quoted(_mapped(self._text[name], partial(_or_else, known, unlogged)))
            elif known:
                cloud[path] = constant(known)
        return cloud

    def _related(self) -> Value:
        """Return the array of each row's distinct addresses."""
        earlier: list[pa.StringArray] = []
        elements: list[Value] = []
        for name in self._addresses:
            column = self._columns[name]
            new = (pc.fill_null(pc.not_equal(column, other), True) for other in earlier)
            element = _nulled_unless(column, *new)
            if element.null_count < len(element):
                elements.append(quoted(element))
            earlier.append(column)
        return json_array(elements)


def _nulled_unless(column: pa.StringArray, *conditions: pa.BooleanArray) -> pa.StringArray:
    """Return a column that is null where it was, or where any condition is false; its text is not copied."""
    there = pc.is_valid(column)
    for condition in conditions:
        there = pc.and_(there, condition)
    mask = there.to_numpy(zero_copy_only=False)
    if mask.all():
        return column
    nulls = pa.py_buffer(np.packbits(np.append(np.zeros(column.offset, bool), mask), bitorder="little"))
    return pa.StringArray.from_buffers(len(column), *column.buffers()[1:], nulls, -1, column.offset)


def _or_else(known: str, unlogged: str, text: pa.StringArray) -> pa.StringArray:
    """Return what was logged; what is known otherwise (if anything) where that is nothing, or says ``unlogged``."""
    text = pc.if_else(pc.equal(text, unlogged), pa.scalar(known or None, pa.string()), text)
    return pc.fill_null(text, known) if known else text


def _by_value(times: npt.NDArray[np.int64]) -> Column:
    column = pa.array(times)
    return coded(column) or column


def _mapped(column: Column, change: Callable[[pa.Array], pa.Array]) -> Column:
    return column.map(change) if isinstance(column, Coded) else change(column)


def _iso(times_ms: Column) -> Value:
    return Value(b'"', _mapped(times_ms, _instants), b'Z"')


def _instants(times_ms: pa.Int64Array) -> pa.StringArray:
    """Return times without their zone. A whole second is written as such whatever stands beside it."""
    times = _numbers(times_ms).astype("datetime64[ms]")
    seconds = times.astype("datetime64[s]")
    texts = np.datetime_as_string(seconds)
    if (seconds != times).any():
        texts = np.where(seconds == times, texts, np.datetime_as_string(times))
    return pa.array(texts, pa.string(), mask=pc.is_null(times_ms).to_numpy(zero_copy_only=False))


def _days(times_ms: pa.Int64Array) -> pa.StringArray:
    days = np.datetime_as_string(_numbers(times_ms).astype("datetime64[ms]").astype("datetime64[D]"))
    return pa.array(np.char.replace(days, "-", "."))


def _numbers(column: pa.Array) -> npt.NDArray[np.integer[Any]]:
    return pc.fill_null(column, 0).to_numpy(zero_copy_only=False)


def _nested(members: dict[str, Value]) -> dict[str, Any]:
    """Return members keyed by dotted paths as a tree."""
    tree: dict[str, Any] = {}
    for path, value in members.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree
