"""One object in: its raw documents made durable, its bad rows set aside, its parts of the roll-ups out.

Rows are counted into the parts only once Elasticsearch has acknowledged their documents, so a part never says more
than what can be searched. Rendering goes on while the bodies before are on their way.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beam_flowlogs.bulk import BulkResult, BulkStream, BulkWriter, ItemRejected
from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.elastic.connection import connect
from beam_flowlogs.inflate import DecodeError
from beam_flowlogs.object_key import parse_key
from beam_flowlogs.object_parts import PartsOfObject, parts_of_object
from beam_flowlogs.record_batch import decode
from beam_flowlogs.recover import recover_parts
from beam_flowlogs.reject import DeadLetters, Reject, object_file
from beam_flowlogs.rollup import Part, RollUpKey
from beam_flowlogs.row_classes import Placed
from beam_flowlogs.rows import BadRow, Rows
from beam_flowlogs.s3_client import ObjectRejected, ObjectUnavailable
from beam_flowlogs.s3_object import ObjectChanged, ObjectRef, S3Object, object_id, open_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_logger = logging.getLogger(__name__)

_REJECTS_PER_FILE = 5_000
_BYTES_PER_FILE = 8 << 20
_REJECTS_PER_OBJECT = 10_000


class IndexedObject(NamedTuple):
    """What became of an object: its records by fate, the bytes sent, and its parts of the roll-ups.

    ``written + duplicates + rejected`` is the number of its records; ``reason`` says why it ended early, if it did.
    ``dead_letters`` are the files of what was set aside, as ``DeadLetters.write`` names them.
    """

    ref: ObjectRef
    written: int = 0
    duplicates: int = 0
    rejected: int = 0
    retries: int = 0
    sent_bytes: int = 0
    latencies: tuple[int, ...] = ()
    reason: str = ""
    parts: Sequence[tuple[RollUpKey, Part]] = ()
    dead_letters: tuple[str, ...] = ()


def index_object(
    ref: ObjectRef, config: JobConfig, client: S3Client, writer: BulkWriter, dead_letters: DeadLetters
) -> IndexedObject:
    """Index one object and return its parts; on return all that was made of it is durable.

    What is wrong with the object or its rows goes to the dead letters. Raises ObjectUnavailable and BulkGaveUp when S3
    or Elasticsearch stay out of reach for longer than the configuration waits.
    """
    sent = send_object(ref, config, client, writer, dead_letters)
    try:
        return sent.finish()
    finally:
        sent.cancel()


def send_object(
    ref: ObjectRef, config: JobConfig, client: S3Client, writer: BulkWriter, dead_letters: DeadLetters
) -> SentObject:
    """Read one object to its end and send its documents, the last of them in the background. Raises as index_object."""
    try:
        opened = open_object(client, ref, retry_for=config.retry_for)
    except ObjectRejected as error:
        return SentObject(ref, None, config, dead_letters, error.reason, error.detail, is_lost=True)
    is_lost = ref.etag not in ("", opened.etag)  # what was announced is
    ref = ref._replace(etag=opened.etag)
    way = _Way(opened, ref, writer.stream(), dead_letters)
    reason = detail = ""
    try:
        with opened:
            batches = decode(
                opened.chunks(),
                config.limits,
                names=config.names,
                slot_ms=_slot_ms(ref),
                written_ms=opened.written_ms,
            )
            while (rows := _next(batches)) is not None:
                way.add(rows, config)
    except DecodeError as error:
        reason, detail = error.reason, f"{ref.url}: {error.detail}"
    except ObjectRejected as error:
        reason, detail, is_lost = error.reason, error.detail, True
    except ObjectChanged as error:
        reason, detail, is_lost = "object-changed", str(error), True
    except BaseException:
        way.cancel()
        raise
    return SentObject(ref, way, config, dead_letters, reason, detail, is_lost=is_lost)


class SentObject:
    """An object that was read, with documents that may still be on their way; ``finish`` waits until they are durable.

    ``reason`` and ``detail`` say why reading it ended early, if it did. ``is_lost`` says that earlier attempts may have
    read more of what was announced than anybody can read now. One that is not finished must be cancelled, or it is sent
    for ever.
    """

    def __init__(
        self,
        ref: ObjectRef,
        way: _Way | None,
        config: JobConfig,
        dead_letters: DeadLetters,
        reason: str,
        detail: str,
        *,
        is_lost: bool,
    ) -> None:
        self._ref, self._way, self._reason, self._detail = ref, way, reason, detail
        self._config, self._dead_letters, self._is_lost = config, dead_letters, is_lost

    def finish(self) -> IndexedObject:
        """Wait for everything sent, and return what became of the object. Raises BulkGaveUp."""
        # What was sent before it ended early can be found, so it counts: parts are what is durable, no more, no less.
        done = self._way.finish() if self._way else IndexedObject(self._ref)
        if self._is_lost:
            indexed = recover_parts(connect(self._config.elasticsearch), self._ref, self._config)
            done = done._replace(parts=_fullest(done.parts, indexed))
        if not self._reason:
            return done
        detail, indexed_rows = self._detail, done.written + done.duplicates
        if indexed_rows:
            detail += (
                f"; {indexed_rows} of its rows are indexed, and those of another file in its place would count beside "
                "them: delete them before (docs/dead-letters.md tells how)"
            )
        file = _set_aside_object(self._ref, self._reason, detail, self._dead_letters)
        return done._replace(reason=self._reason, dead_letters=(*done.dead_letters, file))

    def cancel(self) -> None:
        """Give up what is under way; after ``finish`` nothing is."""
        if self._way:
            self._way.cancel()


@contextmanager
def _bugs_as_rejects() -> Iterator[None]:
    """Make an error that nobody thought of a reject of this one object: it must not stop all the others for ever."""
    try:
        yield
    except (DecodeError, ObjectRejected, ObjectChanged, ObjectUnavailable, OSError, MemoryError):
        raise  # known, or of this machine: a full disk is no fault of the object
    except BaseException as error:
        # A panic of the compiled loops is one of these too, though it is no Exception.
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        _logger.exception("an object could not be decoded or rendered; it is set aside")
        raise DecodeError("unexpected-error", f"{type(error).__name__}: {error}; please report this") from error


def _fullest(
    read: Sequence[tuple[RollUpKey, Part]], indexed: Sequence[tuple[RollUpKey, Part]]
) -> Sequence[tuple[RollUpKey, Part]]:
    """Return the parts of what is indexed, which is not less than what was read now; and those that it lacks."""
    known = {(key, part.object_id) for key, part in indexed}
    return [*indexed, *((key, part) for key, part in read if (key, part.object_id) not in known)]


def _next(batches: Iterator[Rows]) -> Rows | None:
    with _bugs_as_rejects():
        return next(batches, None)


def _slot_ms(ref: ObjectRef) -> int | None:
    slot: datetime | None = parse_key(ref.key).slot
    return None if slot is None else int(slot.timestamp() * 1000)


def _set_aside_object(ref: ObjectRef, reason: str, detail: str, dead_letters: DeadLetters) -> str:
    reject = Reject("object", reason, detail, ref.bucket, ref.key, ref.version_id, ref.etag)
    return dead_letters.write(object_file("object", ref), [reject])


class _Sent(NamedTuple):
    """Rows whose documents are on their way: the positions of their items, the rows and their roll-ups."""

    begin: int
    end: int
    rows: Rows
    placed: Placed


class _Way:
    """The state of one object on its way: what is sent and not yet acknowledged, what is counted, what is rejected."""

    def __init__(self, opened: S3Object, ref: ObjectRef, stream: BulkStream, dead_letters: DeadLetters) -> None:
        key = parse_key(ref.key)
        self._ref = ref
        self._origin = Origin(ref.bucket, ref.key, opened.id, key.account_id, key.region)
        self._flow_log_id = key.flow_log_id
        self._stream = stream
        self._bad_rows = _Files(dead_letters, object_file("row", ref))
        self._bad_documents = _Files(dead_letters, object_file("document", ref))
        self._parts: PartsOfObject | None = None
        self._under_way: deque[_Sent] = deque()
        self._submitted = self._settled = 0
        self._refused: dict[int, ItemRejected] = {}
        self._written = self._duplicates = self._rejected = self._retries = self._bytes = 0
        self._latencies: list[int] = []

    def add(self, rows: Rows, config: JobConfig) -> None:
        """Send the documents of rows, and settle what has been acknowledged meanwhile."""
        if self._parts is None:
            if rows.named:
                ref, names = self._ref, rows.batch.schema.names
                self._origin = replace(self._origin, object_id=object_id(ref.bucket, ref.key, ref.etag, names))
            self._parts = parts_of_object(self._origin, self._flow_log_id, config)
        self._rejected += len(rows.bad) + rows.more_bad
        self._bad_rows.add((self._row_reject(bad) for bad in rows.bad), more=rows.more_bad)
        if not rows.batch.num_rows:
            return
        with _bugs_as_rejects():
            placed = self._parts.place(rows)
            items = bulk_items(rows, self._origin)
        begin, self._submitted = self._submitted, self._submitted + rows.batch.num_rows
        self._under_way.append(_Sent(begin, self._submitted, rows, placed))
        self._stream.submit(items)
        self._settle(self._stream.poll())

    def finish(self) -> IndexedObject:
        """Wait for everything sent, and return what became of the object."""
        self._settle(self._stream.flush())
        self._bad_rows.close(partial(self._unsaid, "row"))
        self._bad_documents.close(partial(self._unsaid, "document"))
        return IndexedObject(
            self._ref,
            self._written,
            self._duplicates,
            self._rejected,
            self._retries,
            self._bytes,
            tuple(self._latencies),
            parts=self._parts.finish() if self._parts else (),
            dead_letters=(*self._bad_rows.written, *self._bad_documents.written),
        )

    def cancel(self) -> None:
        """Give up what is under way."""
        self._stream.cancel()

    def _settle(self, result: BulkResult) -> None:
        """Count the rows whose documents are durable. Bodies are collected in the order in which they were sent."""
        self._written += result.written
        self._duplicates += result.duplicates
        self._retries += result.retries
        self._bytes += result.bytes
        self._latencies += result.latencies
        self._settled += result.written + result.duplicates + len(result.rejected)
        self._refused.update((item.position, item) for item in result.rejected)
        while self._under_way and self._under_way[0].end <= self._settled:
            sent = self._under_way.popleft()
            refused = [at for at in self._refused if sent.begin <= at < sent.end] if self._refused else []
            rows = sent.rows
            placed: Placed | None = sent.placed
            assert self._parts is not None
            if refused:
                durable = np.ones(rows.batch.num_rows, bool)
                durable[[at - sent.begin for at in refused]] = False
                self._rejected += len(refused)
                self._bad_documents.add(
                    self._document_reject(self._refused.pop(at), int(rows.numbers[at - sent.begin])) for at in refused
                )
                rows = rows.pick(durable)
                placed = None
            self._parts.add(rows, placed)

    def _row_reject(self, bad: BadRow) -> Reject:
        detail = f"{self._ref.url} row {bad.number}: {bad.detail}"
        return self._reject("row", bad.reason, detail, bad.number, bad.data)

    def _document_reject(self, item: ItemRejected, number: int) -> Reject:
        detail = f"{self._ref.url} row {number}: Elasticsearch answers {item.status}: {item.detail}"
        return self._reject("document", item.reason, detail, number, item.data)

    def _unsaid(self, stage: str, count: int) -> Reject:
        detail = (
            f"{self._ref.url}: {count} more, of which only this is kept: look at the others of the object, mend their "
            "cause and replay, which reads all of it again"
        )
        return self._reject(stage, f"too-many-bad-{stage}s", detail, -1, b"")

    def _reject(self, stage: str, reason: str, detail: str, row: int, data: bytes) -> Reject:
        ref = self._ref
        return Reject(stage, reason, detail, ref.bucket, ref.key, ref.version_id, ref.etag, row, data)


class _Files:
    """Dead letters of one object and stage, a file for every so many, so that memory stays bounded.

    So does what it may write: past ``_REJECTS_PER_OBJECT`` rejects are counted, and one tells how many there were.
    """

    def __init__(self, dead_letters: DeadLetters, name: str) -> None:
        self.written: list[str] = []
        self._dead_letters = dead_letters
        self._name = name
        self._rejects: list[Reject] = []
        self._bytes = self._kept = self._more = 0

    def add(self, rejects: Iterable[Reject], more: int = 0) -> None:
        """Keep rejects, and count ``more``; writes a file whenever enough have come together."""
        self._more += more
        for reject in rejects:
            if self._kept >= _REJECTS_PER_OBJECT:
                self._more += 1
                continue
            self._kept += 1
            self._rejects.append(reject)
            self._bytes += len(reject.data)
            if len(self._rejects) >= _REJECTS_PER_FILE or self._bytes >= _BYTES_PER_FILE:
                self._flush()

    def close(self, unsaid: Callable[[int], Reject]) -> None:
        """Write what is held, and what ``unsaid`` makes of the number of those that were only counted."""
        if self._more:
            self._rejects.append(unsaid(self._more))
        self._flush()

    def _flush(self) -> None:
        if self._rejects:
            self.written.append(self._dead_letters.write(f"{self._name}-{len(self.written)}", self._rejects))
            self._rejects, self._bytes = [], 0
