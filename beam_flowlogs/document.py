"""Rows of a flow log in, Elasticsearch bulk items out: an ECS document a row, rendered column by column.

The shape is that of Elastic's own VPC flow integration; which logged field goes where is said in ``fields``. A ``-``
never reaches a document: the member is absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.addresses import Addresses
from beam_flowlogs.community_id import community_ids
from beam_flowlogs.fields import BY_COLUMN, NAMESPACE, TCP_FLAGS, Field, Kind, field_of
from beam_flowlogs.json_columns import Segment, Value, constant, escaped, join, json_object, quoted
from beam_flowlogs.protocols import PROTOCOLS
from beam_flowlogs.rows import Rows, milliseconds

RAW_INDEX_PREFIX = "flowlogs-raw-"
_DAY_MS = 86_400_000
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
_FAMILIES = pa.array(["ipv4", "ipv6"])

_URL_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)


@dataclass(frozen=True)
class Origin:
    """Where rows come from: their object, its identity, and what its key tells of account and region."""

    bucket: str
    key: str
    object_id: str
    account_id: str = ""
    region: str = ""


def bulk_items(rows: Rows, origin: Origin) -> pa.BinaryArray:
    """Return a bulk item (action line and document, each ended by a newline) for each row.

    An item creates the document that ``row_ids`` names in the index of the row's day: sent twice, it changes nothing.
    Rows of one shape render best: see ``by_presence``.
    """
    document = json_object(_Documents(rows, origin).tree())
    days = _dates(rows.times - rows.times % _DAY_MS, "%Y.%m.%d")
    action = (f'{{"create":{{"_index":"{RAW_INDEX_PREFIX}'.encode(), *days, b'","_id":"', row_ids(origin, rows.numbers))
    return join((*action, b'"}}\n', *document.segments, b"\n"), nulls="replace").cast(pa.binary())


def row_ids(origin: Origin, numbers: npt.NDArray[np.int64]) -> pa.StringArray:
    """Return the rows' document ids: the object's identity and the row number, in URL-safe base64.

    Twenty characters for the first 2**24 rows: Elasticsearch stores such ids in fifteen bytes.
    """
    width = 4 if not len(numbers) or numbers.max() < 1 << 24 else 8
    shifts = np.arange(6 * (width - 1), -1, -6)
    text = _URL_ALPHABET[(numbers[:, None] >> shifts) & 63]
    offsets = np.arange(0, (len(numbers) + 1) * width, width, dtype=np.int32)
    digits = pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))
    return join((origin.object_id.encode(), digits))


def by_presence(rows: Rows) -> list[Rows]:
    """Split rows with traffic from those without: most of the members that they lack they lack together."""
    if not rows.batch.num_rows:
        return []
    names = rows.batch.schema.names
    if "srcaddr" not in names or not 0 < rows.batch.column("srcaddr").null_count < rows.batch.num_rows:
        return [rows]
    present = pc.is_valid(rows.batch.column("srcaddr")).to_numpy(zero_copy_only=False)
    return [rows.pick(present), rows.pick(~present)]


def _dates(times_ms: npt.NDArray[np.int64] | pa.Int64Array, form: str) -> tuple[Segment, ...]:
    """Return times as text; few differ within a batch, so each is formatted once."""
    encoded = pa.array(times_ms).dictionary_encode()
    known = encoded.dictionary
    unit = "s" if not len(known) or not (np.asarray(known) % 1000).any() else "ms"
    stamps = (known if unit == "ms" else pc.divide(known, 1000)).cast(pa.timestamp(unit))
    text = pc.strftime(stamps, format=form)
    if len(text) == 1 and not encoded.null_count:
        return (text[0].as_py().encode(),)
    return (text.take(encoded.indices),)


def _iso(times_ms: npt.NDArray[np.int64] | pa.Int64Array) -> Value:
    return Value(b'"', *_dates(times_ms, "%Y-%m-%dT%H:%M:%SZ"), b'"')


class _Documents:
    """The members of a batch's documents; each column is turned into text once, however many members show it."""

    def __init__(self, rows: Rows, origin: Origin) -> None:
        self._rows = rows
        self._origin = origin
        self._size = rows.batch.num_rows
        self._columns = {
            name: column
            for name, column in zip(rows.batch.schema.names, rows.batch.columns)
            if column.null_count < self._size
        }
        self._addresses = [name for name in _ADDRESS_COLUMNS if name in self._columns]

    def tree(self) -> dict[str, Any]:
        """Return the document's members as a tree of their paths."""
        members: dict[str, Value] = {"@timestamp": _iso(self._rows.times)}
        members |= self._event()
        for name in self._columns:
            field = field_of(name)
            text = self._text[name]
            members |= {path: self._copy(field, text, es_type) for path, es_type in field.copies.items()}
        members |= self._network() | self._cloud()
        if self._addresses:
            members["related.ip"] = self._related()
        for name in self._columns:
            field = field_of(name)
            members[field.path] = Value(self._text[name]) if field.kind.is_number else quoted(self._text[name])
        if "tcp_flags" in self._columns:
            bits = pc.bit_wise_and(self._columns["tcp_flags"], _NAMED_BITS)
            members[f"{NAMESPACE}.tcp_flags_array"] = Value(_FLAG_ARRAYS.take(bits))
        members["aws.s3.bucket.name"] = constant(self._origin.bucket)
        members["aws.s3.object.key"] = constant(self._origin.key)
        members["log.offset"] = Value(pa.array(self._rows.numbers).cast(pa.string()))
        return _nested(members)

    @cached_property
    def _text(self) -> dict[str, pa.StringArray]:
        return {
            name: column.cast(pa.string())
            if field_of(name).kind.is_number
            else (column if name in self._addresses else escaped(column))
            for name, column in self._columns.items()
        }

    def _copy(self, field: Field, text: pa.StringArray, es_type: str) -> Value:
        if es_type == "date":
            return _iso(milliseconds(self._columns[field.column]))
        return Value(text) if es_type == "long" else quoted(text)

    def _event(self) -> dict[str, Value]:
        event = {"event.kind": constant("event"), "event.category": Value(b'["network"]')}
        if "action" not in self._columns:
            return event | {"event.type": Value(b'["connection"]')}
        known = pc.index_in(self._columns["action"], value_set=_ACTIONS)
        types = pc.fill_null(_TYPES.take(known), '["connection"]')
        return event | {"event.type": Value(types), "event.outcome": quoted(_OUTCOMES.take(known))}

    def _network(self) -> dict[str, Value]:
        network: dict[str, Value] = {}
        if "protocol" in self._columns:
            network["network.transport"] = quoted(_TRANSPORTS.take(self._columns["protocol"]))
        if self._addresses:
            known = self._rows.addresses[self._addresses[0]]
            network["network.type"] = self._family(known)
        flow = ("srcaddr", "dstaddr", "protocol", "srcport", "dstport")
        if all(name in self._columns for name in flow):
            source, destination = (self._rows.addresses[name] for name in flow[:2])
            numbers = [_numbers(self._columns[name]) for name in flow[2:]]
            ids = community_ids(source, destination, *numbers)
            if self._columns["protocol"].null_count:
                ids = pc.if_else(pc.is_valid(self._columns["protocol"]), ids, pa.scalar(None, pa.string()))
            network["network.community_id"] = quoted(ids)
        return network

    def _family(self, known: Addresses) -> Value:
        if known.valid.all() and known.is_v6.all() == known.is_v6.any():
            return constant("ipv6" if known.is_v6[0] else "ipv4")
        return quoted(_FAMILIES.take(pa.array(known.is_v6.astype(np.int8), mask=~known.valid)))

    def _cloud(self) -> dict[str, Value]:
        cloud = {"cloud.provider": constant("aws")}
        for path, name, known in (
            ("cloud.account.id", "account_id", self._origin.account_id),
            ("cloud.region", "region", self._origin.region),
        ):
            if name not in self._columns:
                if known:
                    cloud[path] = constant(known)
                continue
            text = self._text[name]
            fallback = pa.scalar(known or None, pa.string())
            if name == "account_id" and pc.any(pc.equal(text, "unknown")).as_py():
                text = pc.if_else(pc.equal(text, "unknown"), fallback, text)
            cloud[path] = quoted(pc.fill_null(text, fallback) if known and text.null_count else text)
        return cloud

    def _related(self) -> Value:
        """Return the array of each row's distinct addresses."""
        first, *others = self._addresses
        earlier = [self._columns[first]]
        segments: list[Segment] = [b'"', earlier[0], b'"']
        if earlier[0].null_count:
            segments = [join((b',"', earlier[0], b'"'))]
        for name in others:
            column = self._columns[name]
            new = pc.is_valid(column)
            for other in earlier:
                new = pc.and_(new, pc.fill_null(pc.not_equal(column, other), True))
            if pc.all(new).as_py():
                segments += [b',"', column, b'"']
            elif pc.any(new).as_py():
                segments.append(pc.if_else(new, join((b',"', column, b'"')), pa.scalar(None, pa.string())))
            earlier.append(column)
        if not earlier[0].null_count:
            return Value(b"[", *(segments if not _any_null(segments) else [join(segments, nulls="replace")]), b"]")
        members = join(segments, nulls="replace")
        present = pc.greater(pc.binary_length(members), 0)
        return Value(b"[", pc.if_else(present, pc.utf8_slice_codeunits(members, 1), pa.scalar(None, pa.string())), b"]")


def _any_null(segments: list[Segment]) -> bool:
    return any(not isinstance(segment, bytes) and segment.null_count for segment in segments)


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
