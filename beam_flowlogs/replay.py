"""Dead letters in, the same way once more; the files of what went through are settled.

Whatever was set aside of an object, all of it is read again: documents that are there already stay, and its part of a
roll-up, which replaces the one before, is never made of some rows alone (docs/decisions/0060).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import orjson

from beam_flowlogs.alert_store import AlertStore, found_in
from beam_flowlogs.bulk import BulkWriter
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import connect
from beam_flowlogs.index_object import IndexedObject, index_object
from beam_flowlogs.notification import NotificationRejected, parse_notification
from beam_flowlogs.refused import set_aside
from beam_flowlogs.reject import DeadLetters, Reject, Selection
from beam_flowlogs.rollup import Part, RollUpKey, parts_of
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.s3_object import ObjectRef

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Letter", "Replay", "Replayed", "plan", "replay"]

_logger = logging.getLogger(__name__)

_ROLLUPS_AT_ONCE = 500


class Letter(NamedTuple):
    """One file of dead letters: where it is, its stage, and the ETag of the content that its rejects are of."""

    file: str
    stage: str
    etag: str


class Replay(NamedTuple):
    """What goes through together, and the files that this may settle.

    ``refs`` are objects to index, ``rollup`` and ``alert`` are bulk items. ``hindrance`` says why it cannot be
    tried yet.
    """

    letters: tuple[Letter, ...]
    refs: tuple[ObjectRef, ...] = ()
    rollup: bytes = b""
    alert: bytes = b""
    hindrance: str = ""


class Replayed(NamedTuple):
    """What came of a replay: the files that stay and those that are settled, and counts named as a job's summary is."""

    settled: tuple[str, ...]
    kept: tuple[str, ...]
    counts: Counter[str]


def plan(letters: Iterable[tuple[str, Reject]], config: JobConfig, selection: Selection) -> Iterator[Replay]:
    """Yield what there is to replay among ``DeadLetters.read()``: whatever has a reject that ``selection`` holds.

    An object comes once, with all its files. Memory: a name for each object.
    """
    objects: dict[ObjectRef, list[Letter]] = {}
    wanted: set[ObjectRef] = set()
    for file, group in groupby(letters, itemgetter(0)):
        rejects = [reject for _, reject in group]  # of one message, object or roll-up: so the files are written
        first = rejects[0]
        letter = Letter(file, first.stage, first.etag)
        is_wanted = any(map(selection.holds, rejects))
        if first.stage in ("object", "row", "document"):
            name = ObjectRef(first.bucket, first.key, first.version_id)
            objects.setdefault(name, []).append(letter)
            if is_wanted:
                wanted.add(name)
        elif is_wanted and first.stage == "rollup":
            yield Replay((letter,), rollup=first.data)
        elif is_wanted and first.stage == "alert":
            yield Replay((letter,), alert=first.data)
        elif is_wanted:
            yield _checked(_of_message(letter, rejects), config)
    for name, found in objects.items():
        if name in wanted:
            # A name for its next dead letter, if it is still missing: the same as the last one's.
            ref = name._replace(etag=found[0].etag)
            yield _checked(Replay(tuple(found), (ref,)), config)


def _of_message(letter: Letter, rejects: Sequence[Reject]) -> Replay:
    if rejects[0].bucket:  # understood, but not allowed
        return Replay((letter,), tuple(ObjectRef(r.bucket, r.key, r.version_id, r.etag) for r in rejects))
    try:
        body = rejects[0].data.decode("utf-8", "surrogatepass")
        return Replay((letter,), tuple(parse_notification(body)))
    except NotificationRejected as error:
        return Replay((letter,), hindrance=str(error))


def _checked(found: Replay, config: JobConfig) -> Replay:
    own = DeadLetters(config.dead_letters)
    found = found._replace(refs=tuple(ref for ref in found.refs if not own.holds(ref)))  # of an earlier version
    forbidden = sorted({ref.bucket for ref in found.refs if not config.allows(ref.bucket)})
    if not forbidden:
        return found
    return found._replace(
        refs=(), hindrance=f"bucket {', '.join(forbidden)} is not allowed; name it with --bucket if it should be read"
    )


def replay(
    task: Replay,
    config: JobConfig,
    client: S3Client,
    writer: BulkWriter,
    store: RollUpStore,
    dead_letters: DeadLetters,
) -> Replayed:
    """Put one thing through again, and settle its files once everything made of it is durable.

    What fails again is in the dead letters again before anything is settled. A crash anywhere, or a second replay at
    the same time, repeats what changes nothing. Raises as ``index_object`` does.
    """
    counts: Counter[str] = Counter()
    written: set[str] = set()  # files of what failed again, perhaps over the ones that are to be settled
    indexed = []
    for ref in task.refs:
        done = index_object(ref, config, client, writer, dead_letters)
        written.update(done.dead_letters)
        written.update(_merge(done.parts, store, dead_letters, counts))
        _count(done, counts)
        indexed.append(done._replace(parts=()))
    if task.rollup:
        key, parts = parts_of(orjson.loads(task.rollup.partition(b"\n")[2]))
        written.update(_merge([(key, part) for part in parts], store, dead_letters, counts))
    if task.alert:
        alerts = AlertStore(lambda: connect(config.elasticsearch), writer, retry_for=config.retry_for)
        refused = alerts.merge(found_in(task.alert)).rejected
        written.update(set_aside(dead_letters, "alert", name, item) for name, item in refused)
    settled, kept = [], []
    for letter in task.letters:
        if task.hindrance or letter.file in written or not _went_through(letter, indexed):
            kept.append(letter.file)
        else:
            dead_letters.settle(letter.file)
            settled.append(letter.file)
    counts["dead_letters_replayed"] += len(settled)
    counts["dead_letters_kept"] += len(kept)
    for file in kept:
        _logger.warning("%s stays: %s", file, task.hindrance or _why(indexed))
    return Replayed(tuple(settled), tuple(kept), counts)


def _went_through(letter: Letter, indexed: Iterable[IndexedObject]) -> bool:
    """Tell whether a file that was not written anew is done with.

    A message's objects, or an object that failed otherwise now, have dead letters of their own. Rows must have been in
    the very content that was read to its end.
    """
    if letter.stage not in ("row", "document"):
        return True
    return all(not done.reason and done.ref.etag == letter.etag for done in indexed)


def _why(indexed: Sequence[IndexedObject]) -> str:
    reasons = sorted({done.reason for done in indexed if done.reason})
    if reasons:
        return ", ".join(reasons)
    if any(done.rejected for done in indexed):
        return "some of it was rejected again"
    return "it failed again" if not indexed else "the object was overwritten, and these rows are not in the new one"


def _merge(
    parts: Sequence[tuple[RollUpKey, Part]], store: RollUpStore, dead_letters: DeadLetters, counts: Counter[str]
) -> list[str]:
    """Merge parts into their roll-ups, and return the files of those that were refused."""
    files = []
    for begin in range(0, len(parts), _ROLLUPS_AT_ONCE):
        by_key: dict[RollUpKey, list[Part]] = {}
        for key, part in parts[begin : begin + _ROLLUPS_AT_ONCE]:
            by_key.setdefault(key, []).append(part)
        merged = store.merge(by_key)
        for name in ("created", "updated", "unchanged", "overtaken"):
            counts[f"rollups_{name}"] += getattr(merged, name)
        counts["rollups_rejected"] += len(merged.rejected)
        files += [set_aside(dead_letters, "rollup", key.id, item) for key, item in merged.rejected]
    return files


def _count(done: IndexedObject, counts: Counter[str]) -> None:
    counts["objects"] += 1
    counts["objects_rejected"] += bool(done.reason)
    counts["documents"] += done.written
    counts["duplicates"] += done.duplicates
    counts["rejects"] += done.rejected
    counts["retries"] += done.retries
    counts["bulk_bytes"] += done.sent_bytes
    _logger.info("%s was replayed", done.ref.url, extra={"documents": done.written + done.duplicates})
