"""One body to Elasticsearch's `_bulk`, and what its answer means for each item: no patience, no threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from elastic_transport import ApiError, TransportError, Urllib3HttpNode
from elasticsearch import Elasticsearch
from elasticsearch.serializer import CompatibilityModeNdjsonSerializer, OrjsonSerializer

# Every item keeps its status, so that positions stay aligned; an eighth of the full answer's bytes.
_PARAMS = {
    "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.index,"
    "items.*.error.caused_by.reason"
}
_HEADERS = {"content-type": "application/x-ndjson", "accept": "application/json"}
TOO_LARGE = 413
_LONGEST_DETAIL = 500  # characters: a proxy's garbage must not fill the log

# 400s and 404s that tell of the cluster's state, which an operator can change, and of no fault of the document.
_STATES = frozenset({"index_closed_exception", "index_not_found_exception", "validation_exception"})

_CURES = {
    "cluster_block_exception": (
        "If it was blocked on purpose, take the block away: "
        'PUT <index>/_settings {"index.blocks.write": null, "index.blocks.read_only": null}, or, of the whole cluster, '
        'PUT _cluster/settings {"persistent": {"cluster.blocks.read_only": null}}. '
        "If the disk is full, make room: Elasticsearch then takes the block away itself."
    ),
    "index_closed_exception": "Open it (POST <index>/_open), or delete it if nobody needs what it holds.",
    "index_not_found_exception": (
        "Create it, or let it be created: its index template needs allow_auto_create "
        "(`flowlogs setup` sees to that for the indices of flow logs)."
    ),
    "validation_exception": "Where there are too many shards, delete old indices or raise cluster.max_shards_per_node.",
}


class Verdict(Enum):
    """What an answer means for one item."""

    WRITTEN = "written"
    CONFLICT = "conflict"
    RESEND = "resend"
    REJECT = "reject"


def verdict(operation: str, status: int, error_type: str = "") -> Verdict:
    """The verdict on an item of `operation` (create, index, update, delete) answered by `status` and `error_type`."""
    if 200 <= status < 300:
        return Verdict.WRITTEN
    if status == 409:  # an update races with another writer and wins next time; others meet what is there already
        return Verdict.RESEND if operation == "update" else Verdict.CONFLICT
    if status in (401, 403, 408, 429) or status >= 500:  # 403: a block on the index, or a right that the key lacks
        return Verdict.RESEND
    if error_type in _STATES:
        return Verdict.RESEND
    return Verdict.REJECT


class ItemRejected(NamedTuple):
    """An item that Elasticsearch will never take: its position in what was submitted, why, and its bytes."""

    position: int
    status: int
    reason: str
    detail: str
    data: bytes


class Refused(Exception):  # noqa: N818 (an answer, not a fault of the program)
    """A whole request came to nothing; when `divisible`, a part of it may fare better."""

    def __init__(self, status: int, reason: str, detail: str, *, divisible: bool = False) -> None:
        self.status, self.reason, self.detail, self.divisible = status, reason, detail[:_LONGEST_DETAIL], divisible
        super().__init__(describe(status, reason, self.detail))


class Body(NamedTuple):
    """Items that travel in one request: a binary array, and each item's position in what was submitted."""

    items: pa.Array
    positions: npt.NDArray[np.int64]

    def view(self) -> memoryview:
        """The request's body: the array's bytes where they lie in memory, as copying them costs as much as sending."""
        edges = offsets(self.items)
        data = self.items.buffers()[2]
        return memoryview(data.slice(int(edges[0]), int(edges[-1] - edges[0])) if data else b"")

    def take(self, indices: Sequence[int]) -> Body:
        """The body of only the items at `indices`."""
        return Body(self.items.take(pa.array(indices, pa.int64())), self.positions[list(indices)])

    def halves(self) -> tuple[Body, Body]:
        """The first and the second half of the items."""
        middle = len(self.items) // 2
        return (
            Body(self.items.slice(0, middle), self.positions[:middle]),
            Body(self.items.slice(middle), self.positions[middle:]),
        )

    def rejected(self, index: int, status: int, reason: str, detail: str) -> ItemRejected:
        """The item at `index`, with the reason why it will never be taken."""
        data: bytes = self.items[index].as_py()
        return ItemRejected(int(self.positions[index]), status, reason, detail[:_LONGEST_DETAIL], data)


class Outcome(NamedTuple):
    """What one request did: items written, positions in conflict, items rejected, and the indices to send again."""

    written: int
    conflicts: list[int]
    rejected: list[ItemRejected]
    again: list[int]
    troubles: dict[str, str]  # why, of those to send again: a sentence by reason
    overloaded: bool  # the cluster asked for less


def offsets(items: pa.Array) -> npt.NDArray[np.integer[Any]]:
    """Where each item of a binary array begins in its data, and where the last one ends: len(items) + 1 numbers."""
    width = np.int64 if pa.types.is_large_binary(items.type) else np.int32
    buffer = items.buffers()[1]
    if buffer is None:
        return np.zeros(1, width)
    return np.frombuffer(buffer, width)[items.offset : items.offset + len(items) + 1]


def check_items(items: pa.Array) -> None:
    """Raise TypeError or ValueError, with the cure, unless ``items`` is a binary array without nulls."""
    if not (pa.types.is_binary(items.type) or pa.types.is_large_binary(items.type)):
        raise TypeError(f"bulk items must be a binary or large_binary array, not {items.type}: cast it")
    if items.null_count:
        raise ValueError(f"{items.null_count} of {len(items)} bulk items are null: drop them first")


def cut(items: pa.Array | pa.ChunkedArray, first: int, max_bytes: int, max_actions: int) -> Iterator[Body]:
    """Bodies of at most `max_bytes` (but at least one item) and `max_actions`; the first item has position `first`."""
    for chunk in items.chunks if isinstance(items, pa.ChunkedArray) else [items]:
        check_items(chunk)
        edges, start = offsets(chunk), 0
        while start < len(chunk):
            by_bytes = int(np.searchsorted(edges, edges[start] + max_bytes, side="right")) - 1
            stop = max(start + 1, min(by_bytes, start + max_actions, len(chunk)))
            yield Body(chunk.slice(start, stop - start), np.arange(first + start, first + stop))
            start = stop
        first += len(chunk)


def send(client: Elasticsearch, body: Body, data: memoryview) -> Outcome:
    """Send `body`, whose bytes are `data`, once; raises Refused when the request as a whole came to nothing."""
    answer = _post(client, data)
    try:
        items = answer["items"]
        if len(items) != len(body.items):
            raise Refused(200, "wrong_answer", f"{len(body.items)} items were sent, {len(items)} were answered")
        if answer["errors"] is False:
            return Outcome(len(items), [], [], [], {}, overloaded=False)
        return _judge(body, items)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Refused(200, "wrong_answer", f"not an answer to a bulk request: {answer!r}") from e


def outcome_of(refused: Refused, body: Body) -> Outcome:
    """What the refusal of a whole request means for its items; a divisible body has but one left."""
    if refused.divisible:
        item = body.rejected(0, refused.status, refused.reason, refused.detail)
        return Outcome(0, [], [item], [], {}, overloaded=False)
    return Outcome(0, [], [], list(range(len(body.items))), {refused.reason: str(refused)}, overloaded=True)


def _post(client: Elasticsearch, data: memoryview) -> Any:
    try:
        return client.perform_request("POST", "/_bulk", params=_PARAMS, headers=_HEADERS, body=data).body
    except ApiError as e:
        status = e.meta.status
        error = e.body.get("error") if isinstance(e.body, dict) else None
        kind = error.get("type", "") if isinstance(error, dict) else ""
        reason = str(error.get("reason", "")) if isinstance(error, dict) else str(e.body or "")
        if status == TOO_LARGE:
            limit = f"{len(data)} bytes are more than http.max_content_length, or a proxy before it, lets through"
            raise Refused(status, kind or "content_too_large", limit, divisible=True) from e
        # A malformed item spoils its whole body; the same status from elsewhere, or about our headers, does not.
        malformed = status == 400 and bool(kind) and kind != "media_type_header_exception"
        raise Refused(status, kind or type(e).__name__, reason, divisible=malformed) from e
    except TransportError as e:
        raise Refused(0, type(e).__name__, str(e.message)) from e


def _judge(body: Body, items: Sequence[dict[str, Any]]) -> Outcome:
    written, conflicts, rejected, again, overloaded = 0, [], [], [], False
    troubles: dict[str, str] = {}
    for index, item in enumerate(items):
        ((operation, answer),) = item.items()
        status = answer["status"]
        if status < 300:
            written += 1
            continue
        error = answer.get("error", {})
        kind = error.get("type", "")
        match verdict(operation, status, kind):
            case Verdict.CONFLICT:
                conflicts.append(int(body.positions[index]))
            case Verdict.RESEND:
                again.append(index)
                overloaded = overloaded or status == 429 or status >= 500
                if kind not in troubles:
                    troubles[kind] = describe(status, kind, _with_index(error))
            case _:
                causes = [error.get("reason", ""), error.get("caused_by", {}).get("reason", "")]
                detail = ": ".join(cause for cause in causes if cause)
                rejected.append(body.rejected(index, status, kind or f"status_{status}", detail))
    return Outcome(written, conflicts, rejected, again, troubles, overloaded)


def _with_index(error: Mapping[str, Any]) -> str:
    """What an item's error says, beginning with the index where it leaves it out."""
    reason, index = str(error.get("reason", "")), str(error.get("index", ""))
    return reason if index in reason else f"index [{index}] {reason}"


def describe(status: int, reason: str, detail: str) -> str:
    """One sentence of what Elasticsearch, or the way to it, said, and one with the cure."""
    if reason in _CURES:
        cure = _CURES[reason]
    elif status == 0:
        cure = "Check that Elasticsearch is up, and its address, port and certificate."
    elif status in (401, 403):
        cure = "Check the credentials that the configuration names, and their rights on the index."
    elif status == 429 or status >= 500:
        cure = "The cluster has too much to do, or no disk left: give it more, or send less."
    else:
        cure = "Check that the address is Elasticsearch's own, and its log."
    said = f"{status} {reason}" if status else reason
    return f"{said}: {detail[:_LONGEST_DETAIL]}. {cure}"


class _ReadyNdjson(CompatibilityModeNdjsonSerializer):
    """Leaves ready bodies alone; the client's own copies them twice."""

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, (bytes, memoryview)) else super().dumps(data)


class _CountedJson(OrjsonSerializer):
    """Counts an all-good bulk answer instead of parsing it: 10,000 items in 0.1 ms, not 3.5."""

    mimetype = "application/vnd.elasticsearch+json"

    def json_loads(self, data: bytes) -> Any:
        if data.startswith(b'{"errors":false,"items":[') and data.endswith(b"}}]}"):
            return {"errors": False, "items": range(data.count(b'"status":'))}
        return super().json_loads(data)


class BulkNode(Urllib3HttpNode):
    """Sends bodies that are views of memory, and tells the debug log their size.

    The client's own node copies and decodes every body for that log, whether or not anybody reads it: a fifth of the
    CPU that sending takes.
    """

    def _log_request(self, *args: Any, **about: Any) -> None:
        body = about.get("body")
        super()._log_request(*args, **about | {"body": None if body is None else b"%d bytes" % len(body)})


SERIALIZERS = {s.mimetype: s for s in (_ReadyNdjson(), _CountedJson())}  # for the client that sends bulk requests
