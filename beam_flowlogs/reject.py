"""What could not be parsed or indexed, and the dead letters that keep it: Avro files in a folder or in S3.

Files, not an index: they must work when Elasticsearch does not. Everything needed for a replay is in them.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

from beam_flowlogs.object_key import parse_key
from beam_flowlogs.reject_files import SPOOL_LIMIT, WRITABLE, BucketFiles, DeadLettersUnwritable, Files, FolderFiles
from beam_flowlogs.s3_client import s3_client
from beam_flowlogs.s3_object import ObjectRef, object_id, parse_s3_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "SCHEMA",
    "STAGES",
    "DeadLetters",
    "DeadLettersUnreadable",
    "DeadLettersUnwritable",
    "Reject",
    "Selection",
    "item_file",
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


STAGES = ("notification", "object", "row", "document", "rollup", "alert")
"""Where something can fail, in the order of the way."""


class Selection(NamedTuple):
    """Rejects of one stage or reason, or of both; "" stands for any."""

    stage: str = ""
    reason: str = ""

    def holds(self, reject: Reject) -> bool:
        """Tell whether ``reject`` is one of these."""
        return self.stage in ("", reject.stage) and self.reason in ("", reject.reason)

    def check(self) -> Selection:
        """Return this selection. Raises ValueError if nothing can ever be in it."""
        if self.stage and self.stage not in STAGES:
            raise ValueError(f"{self.stage!r} is no stage of a dead letter: give one of {', '.join(STAGES)}")
        return self


def _field(name: str, kind: object, default: object, doc: str) -> dict[str, object]:
    return {"name": name, "type": kind, "default": default, "doc": doc}


SCHEMA_VERSION = "1"
"""Goes up with a change that an older reader would misunderstand; a new field with a default is none."""
_VERSION_KEY = "beam_flowlogs.schema_version"  # in the file's metadata
_SUFFIX = ".avro"

REPLAYED = "replayed"
"""The folder, below the location, of the files that are done with."""
_FILE = re.compile(rf"(?:{REPLAYED}/)?(?:{'|'.join(STAGES)})/.+{re.escape(_SUFFIX)}", re.DOTALL)

# Every field has a default, so that files with fewer or more fields than this stay readable.
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Reject",
    "namespace": "beam_flowlogs",
    "doc": "One message, object, record, document, roll-up or alert that was set aside, with what a replay needs.",
    "fields": [
        _field("stage", "string", "", "Where it failed: notification, object, row, document, rollup or alert."),
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
    stem = _file_name(ref.key.rpartition("/")[2])
    identity = object_id(ref.bucket, ref.key, ref.etag or ref.version_id)
    return f"{stage}/{slot:%Y/%m/%d}/{stem}-{identity}" if slot else f"{stage}/undated/{stem}-{identity}"


def message_file(body: str) -> str:
    """Return the dead letters' file name for one message: ``notification/`` and a hash of its body."""
    digest = hashlib.blake2b(body.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"notification/{digest}"


def item_file(stage: str, name: str, data: bytes) -> str:
    """Return the dead letters' file name for a roll-up or alert that was refused: its id and a hash of its bulk item.

    Refused again, it may hold other parts: these must not overwrite the first ones, which are stored nowhere else.
    """
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return f"{stage}/{_file_name(name)}-{digest}"


def _file_name(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z._-]", "_", text)[-150:]


class DeadLetters:
    """The rejects kept at ``location``, a folder or ``s3://bucket/prefix``. Picklable; the constructor does no I/O.

    ``client`` makes the S3 client when one is needed, ``clock`` gives Unix seconds for ``first_seen``.
    Where S3 stays out of reach, reading and writing raise ObjectUnavailable after ``retry_for`` seconds (None: never).
    ``tell`` hears what has become durable: an example of each stage, reason and bucket in a file, and their number.
    """

    def __init__(
        self,
        location: str,
        *,
        client: Callable[[], S3Client] = s3_client,
        clock: Callable[[], float] = time.time,
        retry_for: float | None = None,
        tell: Callable[[Reject, int], None] | None = None,
    ) -> None:
        if not location:
            raise ValueError("the dead letters need a location; give a folder or s3://bucket/prefix")
        self._files: Files
        self._bucket = self._prefix = ""
        if "://" in location:
            self._bucket, prefix = parse_s3_url(location)
            self._prefix = prefix.strip("/")
            self._files = BucketFiles(self._bucket, self._prefix, client, retry_for)
        else:
            self._files = FolderFiles(location)
        self._clock = clock
        self._tell = tell

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
        groups: dict[tuple[str, str, str], tuple[Reject, int]] = {}
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_LIMIT) as spool:
            fastavro.writer(
                spool,
                _PARSED,
                (_to_avro(reject, now) for reject in _counted(chain([first], rejects), groups)),
                codec="deflate",
                metadata={_VERSION_KEY: SCHEMA_VERSION},
            )
            file = self._files.put(f"{name}{_SUFFIX}", spool)
        if self._tell:
            for example, count in groups.values():
                self._tell(example, count)
        return file

    def check(self) -> None:
        """Raise DeadLettersUnwritable unless files can be put here, so that a job learns it before its first reject."""
        self._files.check()

    def read(self) -> Iterator[tuple[str, Reject]]:
        """Yield (file, reject) of all files in the order of their names, without the replayed ones.

        Raises DeadLettersUnreadable.
        """
        for name, file in self._files.all(_SUFFIX, without=REPLAYED):
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

    def holds(self, ref: ObjectRef) -> bool:
        """Tell whether an object of S3 is a file of these dead letters, by its name.

        S3 announces them as it does flow logs when they lie in the same bucket: read as such, each would be one more.
        """
        below = ref.key.removeprefix(f"{self._prefix}/") if self._prefix else ref.key
        in_place = ref.bucket == self._bucket != "" and (not self._prefix or below != ref.key)
        return in_place and bool(below == WRITABLE or _FILE.fullmatch(below))

    def settle(self, file: str) -> None:
        """Move a file to ``replayed/``, since all in it went through; again is no error.

        ``file`` is where ``write`` or ``read`` say that it is.
        """
        self._files.move(file, REPLAYED)


def _counted(rejects: Iterable[Reject], groups: dict[tuple[str, str, str], tuple[Reject, int]]) -> Iterator[Reject]:
    for reject in rejects:
        name = (reject.stage, reject.reason, reject.bucket)
        example, count = groups.get(name, (reject, 0))
        groups[name] = (example, count + 1)
        yield reject


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
