"""Parts of roll-ups in, merged documents in Elasticsearch out: created, or read, merged and written if unchanged since.

Windows upstream make one writer a key the rule, but nothing here relies on it: a write that was overtaken is answered
by 409, and is read and merged again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkWriter, ItemRejected
from beam_flowlogs.bulk_request import describe
from beam_flowlogs.elastic.patience import NotReadable, patiently
from beam_flowlogs.rollup import MergedRollUp, NewerRollUpError, Part, RollUpKey, merge

_READ_AT_ONCE = 200


class Merged(NamedTuple):
    """What became of the roll-ups of a call: counts by fate, and those that Elasticsearch will never take.

    ``rollups`` are those that it holds now, changed or not.
    """

    created: int
    updated: int
    unchanged: int
    overtaken: int
    rejected: list[tuple[RollUpKey, ItemRejected]]
    rollups: Mapping[RollUpKey, MergedRollUp]


class _Stored(NamedTuple):
    source: Mapping[str, Any]
    seq_no: int
    primary_term: int


class RollUpStore:
    """The roll-up documents of one cluster. ``connect`` gives the client as of now, ``retry_for`` is in seconds."""

    def __init__(
        self, connect: Callable[[], Elasticsearch], writer: BulkWriter, *, retry_for: float | None = None
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._retry_for = retry_for

    def merge(self, parts: Mapping[RollUpKey, Sequence[Part]], panes: Mapping[RollUpKey, str] | None = None) -> Merged:
        """Merge parts into their roll-ups; on return each is durable or rejected.

        ``panes`` says of a roll-up's parts when they came: ``early``, ``on_time`` or ``late``.
        """
        panes = panes or {}
        todo = dict(parts)
        stored: dict[RollUpKey, _Stored] = {}
        created = updated = unchanged = overtaken = 0
        rejected: list[tuple[RollUpKey, ItemRejected]] = []
        held: dict[RollUpKey, MergedRollUp] = {}
        while todo:
            merged: dict[RollUpKey, MergedRollUp] = {}
            for key, found in todo.items():
                source = stored[key].source if key in stored else None
                try:
                    merged[key] = merge(key, source, found, panes.get(key, ""))
                except NewerRollUpError as error:
                    alone = item_of(key, merge(key, None, found))
                    rejected.append((key, ItemRejected(0, 0, "newer-version", str(error), alone)))
            keys = [key for key, rollup in merged.items() if rollup.changed]
            unchanged += len(merged) - len(keys)
            held |= {key: rollup for key, rollup in merged.items() if not rollup.changed}
            result = self._writer.write(
                pa.array([item_of(key, merged[key], stored.get(key)) for key in keys], pa.binary())
            )
            lost = set(result.conflicts) | {item.position for item in result.rejected}
            won = [key for position, key in enumerate(keys) if position not in lost]
            updated += sum(key in stored for key in won)
            created += sum(key not in stored for key in won)
            held |= {key: merged[key] for key in won}
            rejected += [(keys[item.position], item) for item in result.rejected]
            conflicts = [keys[position] for position in result.conflicts]
            # No pause: a writer is overtaken only by one that is done, so every round gets somebody further.
            overtaken += sum(key in stored for key in conflicts)
            stored = self._read(conflicts)
            todo = {key: todo[key] for key in conflicts}
        return Merged(created, updated, unchanged, overtaken, rejected, held)

    def _read(self, keys: Sequence[RollUpKey]) -> dict[RollUpKey, _Stored]:
        """Return the stored documents; one that was deleted meanwhile is absent, and is created next."""
        found: dict[RollUpKey, _Stored] = {}
        for begin in range(0, len(keys), _READ_AT_ONCE):
            some = keys[begin : begin + _READ_AT_ONCE]
            names = [{"_index": key.index_name, "_id": key.id} for key in some]
            for key, document in zip(some, patiently(partial(self._mget, names), self._retry_for)["docs"]):
                if document.get("found"):
                    found[key] = _Stored(document["_source"], document["_seq_no"], document["_primary_term"])
        return found

    def _mget(self, names: list[dict[str, str]]) -> Any:
        answer = self._connect().mget(docs=names)
        for document in answer["docs"]:
            error = document.get("error")
            # An index that was deleted is created next; any other error says nothing of what is stored.
            if error and error["type"] != "index_not_found_exception":
                raise NotReadable(describe(0, error["type"], f"{document['_index']}: {error.get('reason', '')}"))
        return answer


def item_of(key: RollUpKey, rollup: MergedRollUp, stored: _Stored | None = None) -> bytes:
    """Return the bulk item that writes a roll-up: over ``stored`` if it is still there, else if none is there."""
    target: dict[str, Any] = {"_index": key.index_name, "_id": key.id}
    if stored:
        target |= {"if_seq_no": stored.seq_no, "if_primary_term": stored.primary_term}
    action = {"index" if stored else "create": target}
    return orjson.dumps(action) + b"\n" + rollup.document() + b"\n"
