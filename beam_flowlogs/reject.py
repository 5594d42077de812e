"""What could not be parsed or indexed, and the dead letters that keep it: Avro files in a folder or in S3.

Files, not an index: they must work when Elasticsearch does not. Everything needed for a replay is in them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

from beam_flowlogs.s3_client import ObjectRejected, Retry, s3_client
from beam_flowlogs.s3_object import ObjectRef, list_objects, object_id, open_object, parse_key, parse_s3_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "SCHEMA",
    "DeadLetters",
    "DeadLettersUnreadable",
    "DeadLettersUnwritable",
    "Reject",
    "message_file",
    "object_file",
]


class Reject(NamedTuple):
    """One thing that was set aside, and all that a replay needs to know of it; the schema explains each field."""

    stage: str
    reason: str
    detail: str
    bucket: str = ""
    key: str = ""
    version_id: str = ""
    etag: str = ""
    row: int = -1
    data: bytes = b""
    first_seen: int = 0


def _field(name: str, kind: object, default: object, doc: str) -> dict[str, object]:
    return {"name": name, "type": kind, "default": default, "doc": doc}


SCHEMA_VERSION = "1"
"""Goes up with a change that an older reader would misunderstand; a new field with a default is none."""
_VERSION_KEY = "beam_flowlogs.schema_version"  # in the file's metadata

# Every field has a default, so that files with fewer or more fields than this stay readable.
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Reject",
    "namespace": "beam_flowlogs",
    "doc": "One message, object, record, document or roll-up that was set aside, with what a replay needs.",
    "fields": [
        _field("stage", "string", "", "Where it failed: notification, object, row, document or rollup."),
        _field("reason", "string", "", "Why, as a kebab-case code to group by."),
        _field("detail", "string", "", "What was found, and the cure, for a person."),
        _field("bucket", "string", "", "S3 bucket of the object; empty when unknown."),
        _field("key", "string", "", "S3 key of the object, decoded; empty when unknown."),
        _field("version_id", "string", "", "S3 version of the object; empty when unversioned."),
        _field("etag", "string", "", "ETag of the object, without quotes; empty when unknown."),
        _field("row", "long", -1, "0-based record below the header, bad ones counted; -1: the whole object."),
        _field("data", "bytes", "", "What was set aside: the message's body, the record's line or the document."),
        _field("first_seen", {"type": "long", "logicalType": "timestamp-millis"}, 0, "When the run set it aside."),
    ],
}
_PARSED = fastavro.parse_schema(SCHEMA)

_SPOOL_LIMIT = 8 << 20  # bytes of a file that are held in memory before it goes to a temporary file
# What fastavro was seen to raise when single bytes of a file were changed or cut off.
_BROKEN_AVRO = (
    ArithmeticError, EOFError, LookupError, MemoryError, SchemaParseException, SchemaResolutionError, TypeError,
    ValueError, zlib.error,
)  # fmt: skip


class DeadLettersUnreadable(ValueError):  # noqa: N818  (it says what happened)
    """A file among the dead letters is broken or foreign; the message names it."""


def object_file(stage: str, ref: ObjectRef) -> str:
    """Return the dead letters' file name for one object and stage: ``stage/YYYY/MM/DD/file-identity``.

    Made from the arguments alone, so that a retry overwrites; the date is the log file's, ``undated`` if not told.
    """
    slot = parse_key(ref.key).slot
    stem = re.sub(r"[^0-9A-Za-z._-]", "_", ref.key.rpartition("/")[2])[-150:]
    identity = object_id(ref.bucket, ref.key, ref.etag or ref.version_id)
    return f"{stage}/{slot:%Y/%m/%d}/{stem}-{identity}" if slot else f"{stage}/undated/{stem}-{identity}"


def message_file(body: str) -> str:
    """Return the dead letters' file name for one message: ``notification/`` and a hash of its body."""
    digest = hashlib.blake2b(body.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"notification/{digest}"


class DeadLettersUnwritable(Exception):  # noqa: N818  (it says what happened)
    """S3 refuses the dead letters: a fault of the environment, which stops the job; never a reject itself."""


class DeadLetters:
    """The rejects kept at ``location``, a folder or ``s3://bucket/prefix``. Picklable; the constructor does no I/O.

    ``client`` makes the S3 client when one is needed, ``clock`` gives Unix seconds for ``first_seen``.
    """

    def __init__(
        self,
        location: str,
        *,
        client: Callable[[], S3Client] = s3_client,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not location:
            raise ValueError("the dead letters need a location; give a folder or s3://bucket/prefix")
        self._store: _Store
        if "://" in location:
            bucket, prefix = parse_s3_url(location)
            self._store = _Bucket(bucket, prefix.strip("/"), client)
        else:
            self._store = _Folder(location)
        self._clock = clock

    def write(self, name: str, rejects: Iterable[Reject]) -> str:
        """Write one file ``name`` (``.avro`` is added) and return where it is; no rejects: no file, "".

        Durable and complete on return, else absent; a file of that name is replaced. Memory stays bounded however many
        rejects come. ``first_seen`` becomes now where it is 0.
        """
        if "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ValueError(
                f"{name!r} is no name for a dead letters' file; give a relative path like row/2024/01/31/x"
            )
        rejects = iter(rejects)
        first = next(rejects, None)
        if first is None:
            return ""
        now = int(self._clock() * 1000)
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_LIMIT) as spool:
            fastavro.writer(
                spool,
                _PARSED,
                (_to_avro(reject, now) for reject in chain([first], rejects)),
                codec="deflate",
                metadata={_VERSION_KEY: SCHEMA_VERSION},
            )
            return self._store.put(f"{name}.avro", spool)

    def read(self) -> Iterator[tuple[str, Reject]]:
        """Yield (file, reject) of all files in the order of their names. Raises DeadLettersUnreadable."""
        for name, file in self._store.files():
            with file:
                try:
                    reader = fastavro.reader(file, reader_schema=_PARSED)
                    _check_version(reader.metadata)
                    for found in reader:
                        yield name, _from_avro(found)
                except _BROKEN_AVRO as error:
                    raise DeadLettersUnreadable(
                        f"{name} is not a whole Avro file of dead letters ({type(error).__name__}: {error}); "
                        "move it away to read the others"
                    ) from error


def _check_version(metadata: dict[str, str]) -> None:
    version = metadata.get(_VERSION_KEY, SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema version {version}, understood is {SCHEMA_VERSION}; update this program")


def _to_avro(reject: Reject, now: int) -> dict[str, object]:
    found = reject._asdict() | {"first_seen": reject.first_seen or now}
    # A lone surrogate has no UTF-8: what is set aside because of it must not fail here again.
    return {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in found.items()
    }


def _from_avro(found: dict[str, Any]) -> Reject:
    # Where a file lacks a field, fastavro gives the schema's default as JSON has it: a number, and "" for no bytes.
    first_seen = found["first_seen"]
    if isinstance(first_seen, datetime):
        first_seen = round(first_seen.timestamp() * 1000)
    return Reject(**found | {"first_seen": first_seen, "data": found["data"] or b""})


class _Store(Protocol):
    """Where files are kept."""

    def put(self, name: str, content: IO[bytes]) -> str:
        """Keep the whole content under ``name``, at once and durably; return where."""

    def files(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield where each file is, and the file opened."""


@dataclass(frozen=True)
class _Folder:
    path: str

    def put(self, name: str, content: IO[bytes]) -> str:
        target = Path(self.path, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        content.seek(0)
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False) as copy:
            try:
                shutil.copyfileobj(content, copy)
                copy.flush()
                os.fsync(copy.fileno())
                Path(copy.name).replace(target)
            except BaseException:
                Path(copy.name).unlink(missing_ok=True)
                raise
        # The message is acknowledged on the strength of this file: the rename must survive a power cut too.
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return str(target)

    def files(self) -> Iterator[tuple[str, IO[bytes]]]:
        for path in sorted(Path(self.path).rglob("*.avro")):
            yield str(path), path.open("rb")


@dataclass(frozen=True)
class _Bucket:
    bucket: str
    prefix: str
    client: Callable[[], S3Client] = field(repr=False)

    def put(self, name: str, content: IO[bytes]) -> str:
        key = f"{self.prefix}/{name}" if self.prefix else name
        url = f"s3://{self.bucket}/{key}"
        client = self.client()

        def upload() -> None:
            content.seek(0)
            client.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType="application/avro")

        try:
            Retry().call(url, upload)
        except ObjectRejected as error:
            raise DeadLettersUnwritable(f"{error.detail}; the dead letters need s3:PutObject on this bucket") from error
        return url

    def files(self) -> Iterator[tuple[str, IO[bytes]]]:
        client = self.client()
        for ref in list_objects(client, self.bucket, f"{self.prefix}/" if self.prefix else ""):
            if not ref.key.endswith(".avro"):
                continue
            # fastavro reads a few bytes at a time, a stream from S3 breaks: so the file is fetched whole first.
            copy = tempfile.SpooledTemporaryFile(max_size=_SPOOL_LIMIT)  # noqa: SIM115  (the caller closes it)
            with open_object(client, ref) as source:
                copy.writelines(source.chunks())
            copy.seek(0)
            yield ref.url, copy
