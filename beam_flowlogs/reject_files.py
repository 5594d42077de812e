"""Where the files of dead letters lie, a folder or a bucket of S3: each is put there and moved whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from beam_flowlogs.s3_client import ObjectRejected, Retry
from beam_flowlogs.s3_object import list_objects, open_object, parse_s3_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef

SPOOL_LIMIT = 8 << 20
"""Bytes of a file that are held in memory before it goes to a temporary file."""


WRITABLE = ".writable"
"""The empty object that shows that a bucket takes dead letters."""


class DeadLettersUnwritable(Exception):  # noqa: N818  (it says what happened)
    """The dead letters cannot be kept: a fault of the environment, which stops the job; never a reject itself."""


class Files(Protocol):
    """Where files are kept."""

    def check(self) -> None:
        """Raise DeadLettersUnwritable unless files can be put here."""

    def put(self, name: str, content: IO[bytes]) -> str:
        """Keep the whole content under ``name``, at once and durably; return where."""

    def all(self, suffix: str, *, without: str) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield where each file with this suffix is, and the file opened; none of the folder ``without``."""

    def move(self, where: str, folder: str) -> None:
        """Move the file that is at ``where`` into ``folder``, below its own name; one that is there is replaced.

        It is at one of both places at least, whenever this ends. A file that is gone is no error.
        """


@dataclass(frozen=True)
class FolderFiles:
    """Files below a folder of this machine, or one that all workers share."""

    path: str

    def check(self) -> None:
        """See ``Files.check``. Nothing is left behind: a run without rejects makes no folder."""
        folder = Path(self.path).absolute()
        there = next(step for step in (folder, *folder.parents) if step.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise DeadLettersUnwritable(
                f"the dead letters cannot be written to {folder} ({error.strerror}): give another place with "
                "--dead-letter, a folder that this user may write to or s3://bucket/prefix"
            ) from error

    def put(self, name: str, content: IO[bytes]) -> str:
        """See ``Files.put``."""
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
        _sync(target.parent)
        return str(target)

    def all(self, suffix: str, *, without: str) -> Iterator[tuple[str, IO[bytes]]]:
        """See ``Files.all``."""
        left_out = Path(self.path, without)
        for path in sorted(Path(self.path).rglob(f"*{suffix}")):
            if left_out in path.parents:
                continue
            try:
                file = path.open("rb")
            except FileNotFoundError:  # moved since it was listed
                continue
            yield str(path), file

    def move(self, where: str, folder: str) -> None:
        """See ``Files.move``."""
        source = Path(where)
        target = Path(self.path, folder, source.relative_to(self.path))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except FileNotFoundError:
            return
        _sync(target.parent)
        _sync(source.parent)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@dataclass(frozen=True)
class BucketFiles:
    """Files below a prefix of a bucket; ``client`` makes the S3 client when one is needed.

    Where S3 is out of reach for ``retry_for`` seconds, everything here raises ObjectUnavailable; None waits for ever.
    """

    bucket: str
    prefix: str
    client: Callable[[], S3Client] = field(repr=False)
    retry_for: float | None = None

    def check(self) -> None:
        """See ``Files.check``. An empty object stays: to delete it would need one more right."""
        self.put(WRITABLE, BytesIO())

    def put(self, name: str, content: IO[bytes]) -> str:
        """See ``Files.put``."""
        url = self._url(name)
        client = self.client()

        def upload() -> None:
            content.seek(0)
            client.put_object(Bucket=self.bucket, Key=_key(url), Body=content, ContentType="application/avro")

        try:
            Retry(self.retry_for).call(url, upload)
        except ObjectRejected as error:
            raise DeadLettersUnwritable(f"{error.detail}; the dead letters need s3:PutObject on this bucket") from error
        return url

    def all(self, suffix: str, *, without: str) -> Iterator[tuple[str, IO[bytes]]]:
        """See ``Files.all``."""
        client = self.client()
        left_out = _key(self._url(f"{without}/"))
        for ref in list_objects(client, self.bucket, _key(self._url("")), retry_for=self.retry_for):
            if not ref.key.endswith(suffix) or ref.key.startswith(left_out):
                continue
            # fastavro reads a few bytes at a time, a stream from S3 breaks: so the file is fetched whole first.
            copy = tempfile.SpooledTemporaryFile(max_size=SPOOL_LIMIT)  # noqa: SIM115  (the caller closes it)
            try:
                with open_object(client, ref, retry_for=self.retry_for) as source:
                    copy.writelines(source.chunks())
            except ObjectRejected as error:
                copy.close()
                if error.reason == "object-missing":  # moved since it was listed
                    continue
                raise
            copy.seek(0)
            yield ref.url, copy

    def move(self, where: str, folder: str) -> None:
        """See ``Files.move``."""
        client = self.client()
        key = _key(where)
        target = _key(self._url(f"{folder}/{where.removeprefix(self._url(''))}"))
        source: CopySourceTypeDef = {"Bucket": self.bucket, "Key": key}
        retry = Retry(self.retry_for)
        try:
            retry.call(where, lambda: client.copy_object(Bucket=self.bucket, Key=target, CopySource=source))
            retry.call(where, lambda: client.delete_object(Bucket=self.bucket, Key=key))
        except ObjectRejected as error:
            if error.reason != "object-missing":
                raise DeadLettersUnwritable(
                    f"{error.detail}; to move replayed dead letters, s3:GetObject, s3:PutObject and s3:DeleteObject "
                    "on this bucket are needed"
                ) from error

    def _url(self, name: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}/{name}" if self.prefix else f"s3://{self.bucket}/{name}"


def _key(url: str) -> str:
    return parse_s3_url(url)[1]
