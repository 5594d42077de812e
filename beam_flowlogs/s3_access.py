"""Whose fault a denial is: that of one object, or of the environment, which nobody can read anything in.

S3 answers both alike. So another object of the bucket is asked for as a witness: if it can be read, the denied one is
set aside; if nothing of the bucket can, its policy, the role or the key is out of order, and that is waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE_S = 3600
"""Seconds that a bucket may deny everything while others are readable: its objects must not stop theirs for ever."""

_NEIGHBOURS = 4
_ONLY_IF_ALLOWED = ("InvalidObjectState", "InvalidRange")
"""What S3 answers of an archived or an empty object, to those who may read it."""

_logger = logging.getLogger(__name__)


class Access:
    """What this process has been able to read, by bucket; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read: dict[str, str] = {}
        self._denied_since: dict[str, float] = {}

    def opened(self, bucket: str, key: str) -> None:
        """Take note of an object that could be read."""
        with self._lock:
            self._read[bucket] = key
            self._denied_since.pop(bucket, None)

    def is_of_object(self, client: S3Client, bucket: str, key: str) -> bool:
        """Tell whether the denial of an object is its own fault: others of the bucket can be read.

        Also when the whole bucket denies, but has done so for ``PATIENCE_S`` and others are being read.
        """
        if any(_is_readable(client, bucket, other) for other in self._witnesses(client, bucket, key)):
            return True
        with self._lock:
            since = self._denied_since.setdefault(bucket, self._clock())
            return self._clock() - since > PATIENCE_S and bool(self._read.keys() - {bucket})

    def _witnesses(self, client: S3Client, bucket: str, key: str) -> Iterator[str]:
        """Yield the object that was read last, and listed ones, from the nearest folder up to the whole bucket."""
        last = self._read.get(bucket, key)
        if last != key:
            yield last
        tried = {key, last}
        folder = key
        while folder:
            denied, folder = folder, folder[: folder.rstrip("/").rfind("/") + 1]
            # Before and behind what is denied: all of a folder may be, by its key or by the bucket's policy.
            for after in ("", f"{denied}\U0010ffff"):
                try:
                    listed = client.list_objects_v2(
                        Bucket=bucket, Prefix=folder, StartAfter=after, MaxKeys=_NEIGHBOURS + 1
                    )
                except (ClientError, BotoCoreError) as error:
                    _logger.debug("s3://%s/%s cannot be listed: %s", bucket, folder, error)
                    return
                neighbours = [found["Key"] for found in listed.get("Contents", ()) if found["Key"] not in tried]
                yield from neighbours
                tried.update(neighbours)


def _is_readable(client: S3Client, bucket: str, key: str) -> bool:
    try:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
    except ClientError as error:
        return error.response.get("Error", {}).get("Code") in _ONLY_IF_ALLOWED
    except BotoCoreError:
        return False
    return True


access = Access()
"""What this process has been able to read."""
