"""Where generated objects go: a folder, or an S3 bucket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Sink = Callable[[str, bytes], None]
"""Takes an object's key and its bytes. The ``__setitem__`` of a dict is one."""

_UPLOADS = 4


class UploadError(Exception):
    """S3 did not take an object, and trying again (by the client's own retries) did not help."""


class FolderSink:
    """Writes each object to a file below ``folder``; a key's folders are made as needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, key: str, body: bytes) -> None:
        """Write one object, whole or not at all."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(body)
        partial.replace(path)


class S3Sink:
    """Puts each object into ``bucket``, a few at a time beside the work that makes them.

    A context manager: leaving it waits for the uploads. Raises UploadError at the latest then.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self._pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload")
        self._under_way: deque[Future[None]] = deque()

    def __call__(self, key: str, body: bytes) -> None:
        """Upload one object; waits for an earlier one when enough are under way, which bounds memory."""
        while len(self._under_way) >= _UPLOADS:
            self._under_way.popleft().result()
        self._under_way.append(self._pool.submit(self._put, key, body))

    def _put(self, key: str, body: bytes) -> None:
        try:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=body)
        except (BotoCoreError, ClientError) as error:
            raise UploadError(
                f"s3://{self.bucket}/{key}: {error}; check that the bucket exists, that s3:PutObject is allowed, "
                "and AWS_REGION and AWS_ENDPOINT_URL"
            ) from error

    def __enter__(self) -> S3Sink:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            while error is None and self._under_way:
                self._under_way.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
