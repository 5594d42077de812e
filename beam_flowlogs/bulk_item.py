"""A document in, the bytes of its bulk item out: which index, which operation, under which id.

And back: ready bulk bodies in, their items out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs.bulk_request import offsets

_OPERATIONS = ("create", "index", "update")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ACTION = re.compile(rb'\s*\{\s*"(?:create|index|update)"\s*:')
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC


def split_body(body: bytes) -> list[bytes]:
    r"""The items of a bulk body, one or many: pairs of lines, an action with its id and a document.

    Raises ValueError, with the reason, when it is anything else; a delete has no document and is not taken.
    """
    lines = body.removesuffix(b"\n").split(b"\n")
    if len(lines) % 2:
        raise ValueError(f"a bulk body is pairs of lines, an action and a document, not {len(lines)} lines")
    for number, action in enumerate(lines[::2]):
        if not _ACTION.match(action):
            raise ValueError(f"item {number} does not begin with the action create, index or update: {action[:100]!r}")
        if b'"_id"' not in action:
            raise ValueError(f"item {number} has no _id, so a repeated request would write it twice: {action[:100]!r}")
    return [b"%b\n%b\n" % pair for pair in zip(lines[::2], lines[1::2])]


def are_items(bodies: pa.Array) -> bool:
    """Tell whether each of a binary array is plainly one item: two lines with their ends, the first one an action.

    A tenth of what ``split_body`` costs, and it looks no further: not for the id.
    """
    edges = offsets(bodies)
    if len(edges) < 2:
        return True
    data = np.frombuffer(bodies.buffers()[2] or b"", np.uint8)[edges[0] : edges[-1]]
    newlines = np.flatnonzero(data == ord("\n"))
    if len(newlines) != 2 * len(bodies) or (newlines[1::2] + 1 != edges[1:] - edges[0]).any():
        return False
    acts = [pc.starts_with(bodies, f'{{"{operation}":') for operation in _OPERATIONS]
    return bool(pc.all(pc.or_(pc.or_(acts[0], acts[1]), acts[2])).as_py())


@dataclass(frozen=True)
class ItemFormat:
    r"""How documents become bulk items.

    index: a name, a `strftime` pattern of the event time in UTC ("flows-%Y.%m.%d"), or a function of it.
    operation: `create` keeps what is there, `index` replaces it, `update` merges into it or makes it.
    id, routing, version: the names of the fields that hold them. The id is needed, since items may be sent twice.
        With a version (an integer that grows) the newest wins, whatever comes first. A field whose name begins with
        `_` is taken out of the document, others stay in it.
    time: the field with the event time (datetime, milliseconds since 1970, or ISO 8601); "" = the element's timestamp.
    """

    index: str | Callable[[datetime], str]
    operation: str = "create"
    id: str = "_id"
    routing: str = ""
    version: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        if not self.index:
            raise ValueError('name an index, such as "flows" or "flows-%Y.%m.%d"')
        if self.operation not in _OPERATIONS:
            raise ValueError(f"operation must be one of {', '.join(_OPERATIONS)}, not {self.operation!r}")
        if not self.id:
            raise ValueError("name the field that holds the id: without one a repeated request writes twice")
        if self.version and self.operation != "index":
            raise ValueError(f"a version needs operation 'index'; Elasticsearch knows none with {self.operation!r}")

    def render(self, document: Mapping[str, Any], timestamp: datetime) -> bytes:
        """The item of `document`, an element of `timestamp`; raises ValueError, with the reason, if it has none."""
        if not isinstance(document, Mapping):
            raise ValueError(f"a document must be a dict, not {type(document).__name__}")  # noqa: TRY004 (bad data)
        action: dict[str, Any] = {"_index": self._index(document, timestamp), "_id": self._name(document, self.id)}
        if self.routing:
            action["routing"] = self._name(document, self.routing)
        if self.version:
            action |= {"version": int(self._value(document, self.version)), "version_type": "external"}
        hidden = [name for name in (self.id, self.routing, self.version, self.time) if name.startswith("_")]
        source: Any = {name: value for name, value in document.items() if name not in hidden} if hidden else document
        if self.operation == "update":
            source = {"doc": source, "doc_as_upsert": True}
        try:
            return b"%b\n%b\n" % (orjson.dumps({self.operation: action}), orjson.dumps(source, option=_OPTIONS))
        except orjson.JSONEncodeError as e:
            raise ValueError(f"the document cannot be written as JSON: {e}") from e

    def _index(self, document: Mapping[str, Any], timestamp: datetime) -> str:
        if isinstance(self.index, str) and "%" not in self.index:
            return self.index
        try:
            time = _to_datetime(self._value(document, self.time)) if self.time else timestamp
        except OverflowError as e:
            raise ValueError(f"the field {self.time!r} holds no time: {e}") from e
        return time.strftime(self.index) if isinstance(self.index, str) else self.index(time)

    def _name(self, document: Mapping[str, Any], field: str) -> str:
        name = str(self._value(document, field))
        if not 0 < len(name.encode()) <= 512:
            raise ValueError(f"the field {field!r} must have 1 to 512 bytes, not {len(name.encode())}")
        return name

    def _value(self, document: Mapping[str, Any], field: str) -> Any:
        value = document.get(field)
        if value is None:
            raise ValueError(f"the document has no field {field!r}")
        return value


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, int):
        return _EPOCH + timedelta(milliseconds=value)
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if not isinstance(value, datetime):
        raise ValueError(f"not a time: {value!r}")  # noqa: TRY004 (bad data)
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
