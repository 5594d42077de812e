"""One object of S3: its name, its identity, and its bytes as a stream that heals itself.

``ObjectRef`` in (from a notification or ``list_objects``), ``S3Object.chunks()`` out: the stored bytes, in order,
each exactly once, in bounded memory.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from beam_flowlogs.s3_access import access
from beam_flowlogs.s3_client import ObjectRejected, ObjectUnavailable, Retry, is_denial, s3_client

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef, ListObjectsV2RequestTypeDef

__all__ = [
    "ObjectChanged",
    "ObjectRef",
    "ObjectRejected",
    "ObjectUnavailable",
    "S3Object",
    "list_objects",
    "object_id",
    "open_object",
    "parse_s3_url",
    "s3_client",
]

CHUNK_SIZE = 1 << 20
"""Bytes that are read, and held, at a time; 64 KiB would cost three times the CPU."""
OBJECT_ID_LENGTH = 16
"""Characters of an object's identity, with which its documents' ids begin."""
_CAREFUL_SIZE = 16 << 10
_DENIED = (
    "allow this role to read the whole bucket: s3:GetObject, s3:GetObjectVersion and s3:ListBucket, in the role's "
    "policy and the bucket's, and kms:Decrypt on its KMS key, which must be enabled"
)


class ObjectRef(NamedTuple):
    """One object, announced or listed. ``etag`` and ``size`` (bytes, -1 = unknown) are hearsay until it is opened."""

    bucket: str
    key: str
    version_id: str = ""
    etag: str = ""
    size: int = -1

    @property
    def url(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


class ObjectChanged(Exception):  # noqa: N818  (it says what happened)
    """The object was overwritten while it was read: the bytes so far belong to an object that is no more.

    They stay those of its identity, and what was made of them counts. The one that lies there now is another object,
    which S3 announces by itself; opening it again reads that one.
    """


def parse_s3_url(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into bucket and prefix ("" for the whole bucket). Raises ValueError."""
    found = re.fullmatch(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:/(.*))?", url, re.DOTALL)
    if not found:
        raise ValueError(f"{url!r} is not an S3 location; write s3://bucket/prefix")
    return found[1], found[2] or ""


def object_id(bucket: str, key: str, etag: str, names: Iterable[str] = ()) -> str:
    """Return the identity of an object's content: 16 characters (96 bits, base64url) that document ids derive from.

    ``etag`` is that of the GET response, with or without quotes: notifications of different kinds may lack it.
    ``names`` are the columns that a text without header was read by: read by other ones, it is another object.
    """
    # Neither a bucket's name, an ETag nor a column's name holds a NUL, so no two objects give the same text.
    text = "\0".join((bucket, key, etag.strip('"'), *names))
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=12).digest()).decode()


class S3Object:
    """An opened object; use it in a ``with`` block. ``size`` is in bytes, ``id`` is its ``object_id``.

    ``written_ms`` is when it was written, in Unix milliseconds (None: the server does not say).
    """

    def __init__(
        self, client: S3Client, ref: ObjectRef, response: GetObjectOutputTypeDef, chunk_size: int, retry: Retry
    ) -> None:
        self.ref = ref
        self.etag = response["ETag"].strip('"')
        self.id = object_id(ref.bucket, ref.key, self.etag)
        self.size = response["ContentLength"]
        written: datetime | None = response.get("LastModified")
        self.written_ms = None if written is None else int(written.timestamp() * 1000)
        self._client = client
        self._body: StreamingBody | None = response["Body"]
        self._chunk_size = chunk_size
        self._retry = retry

    def __enter__(self) -> S3Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; ``chunks()`` then starts anew."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the stored bytes from the first to the last, at most ``chunk_size`` at a time.

        A broken stream goes on from the byte it had reached. Raises ObjectChanged, ObjectRejected and
        ObjectUnavailable; after any of them, what was yielded is not the whole object and must not count as one.
        """
        position = 0
        with closing(self):
            while position < self.size:
                chunk = self._retry.call(self.ref.url, partial(self._read, position))
                position += len(chunk)
                yield chunk

    def _read(self, position: int) -> bytes:
        """Return the next bytes, at least one; after any error the next call opens a new stream at ``position``."""
        try:
            if self._body is None:
                self._resume(position)
            return self._take(self.size - position)
        except BaseException:
            self.close()
            # What came of a broken read is lost; a line that always breaks early must still get on.
            self._chunk_size = min(self._chunk_size, _CAREFUL_SIZE)
            raise

    def _take(self, most: int) -> bytes:
        chunk = self._body.read(min(self._chunk_size, most)) if self._body else b""
        if not chunk:
            raise ObjectUnavailable(f"{self.ref.url}: the stream ended before byte {self.size}")
        return chunk

    def _resume(self, position: int) -> None:
        """Open a new stream at ``position`` of the very object that was opened first."""
        request = _request(self.ref)
        request["Range"] = f"bytes={position}-"
        request["IfMatch"] = f'"{self.etag}"'
        try:
            response = _get(self._client, request)
        except ClientError as error:
            # 416: there is no such byte any more, so it is another object whatever became of If-Match.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (412, 416):
                raise self._changed(position) from error
            raise
        self._body = response["Body"]
        if response["ETag"].strip('"') != self.etag:
            raise self._changed(position)
        found = response.get("ContentRange", f"bytes 0-{response['ContentLength'] - 1}/{response['ContentLength']}")
        if found == f"bytes 0-{self.size - 1}/{self.size}":
            while position > 0:  # a server may leave Range aside and send everything
                position -= len(self._take(position))
        elif found != f"bytes {position}-{self.size - 1}/{self.size}":
            raise ObjectUnavailable(f"{self.ref.url}: asked for the bytes from {position} on, got {found}")

    def _changed(self, position: int) -> ObjectChanged:
        return ObjectChanged(
            f"{self.ref.url} was overwritten while it was read (at byte {position}): its replacement counts as "
            "another object, and this dead letter can go"
        )


def open_object(
    client: S3Client,
    ref: ObjectRef,
    *,
    chunk_size: int = CHUNK_SIZE,
    retry_for: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> S3Object:
    """Open an object for reading; its bytes are fetched by ``S3Object.chunks()``.

    ``retry_for`` seconds without a byte, in opening or reading, raise ObjectUnavailable (None: wait for ever).
    Raises ObjectRejected when the object can not be read however long one waits.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1 byte")
    retry = Retry(retry_for, sleep)
    return S3Object(client, ref, retry.call(ref.url, lambda: _get(client, _request(ref))), chunk_size, retry)


def _request(ref: ObjectRef) -> GetObjectRequestTypeDef:
    request: GetObjectRequestTypeDef = {"Bucket": ref.bucket, "Key": ref.key}
    if ref.version_id:
        request["VersionId"] = ref.version_id
    return request


def _get(client: S3Client, request: GetObjectRequestTypeDef) -> GetObjectOutputTypeDef:
    bucket, key = request["Bucket"], request["Key"]
    try:
        response = client.get_object(**request)
    except ClientError as error:
        if is_denial(error) and not access.is_of_object(client, bucket, key):
            raise ObjectUnavailable(
                f"s3://{bucket}/{key}: {error}, and no other object can be read", _DENIED
            ) from error
        raise
    access.opened(bucket, key)
    if not response.get("ETag") or "ContentLength" not in response:
        response["Body"].close()
        raise ObjectUnavailable(f"s3://{bucket}/{key}: the answer has no ETag or no length, so it is not from S3")
    return response


def list_objects(
    client: S3Client,
    bucket: str,
    prefix: str,
    *,
    next_key: Callable[[str], str] = lambda _: "",
    retry_for: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ObjectRef]:
    """Yield every object below ``prefix`` in the order of the keys, a page of 1,000 in memory at a time.

    ``next_key`` passes over what is not wanted: it is told the prefix, and the last key of each page, and returns after
    which one to go on ("": after that). What is not wanted may be among the objects of a page all the same. Raises
    ObjectRejected (no such bucket, access denied) and ObjectUnavailable, as ``open_object`` does.
    """
    retry = Retry(retry_for, sleep)
    request: ListObjectsV2RequestTypeDef = {"Bucket": bucket, "Prefix": prefix}
    if start := next_key(prefix):
        request["StartAfter"] = start
    while True:
        # Not boto3's paginator: a failed page is asked for again, not the whole listing.
        page = retry.call(f"s3://{bucket}/{prefix}", lambda: client.list_objects_v2(**request))
        for found in page.get("Contents", ()):
            yield ObjectRef(bucket, found["Key"], etag=found["ETag"].strip('"'), size=found["Size"])
        if not page.get("IsTruncated"):
            return
        last = page["Contents"][-1]["Key"] if page.get("Contents") else ""
        start = next_key(last)
        if start > last:
            request["StartAfter"] = start
            request.pop("ContinuationToken", None)  # which would win
        else:
            request["ContinuationToken"] = page["NextContinuationToken"]
