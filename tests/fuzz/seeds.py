"""Inputs that every target starts from: legal ones, so that mutation begins behind the first check."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from beam_flowlogs.fields import FIELDS
from beam_flowlogs.generate import encode_parquet
from tests.golden import GOLDEN

_KEY = "logs/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/a+b%3D.log.gz"
_OBJECT = {"key": _KEY, "size": 42, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": "3", "sequencer": "005A"}
_S3_EVENT = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "logs"}, "object": _OBJECT},
        }
    ]
}
_EVENTBRIDGE = {
    "version": "0",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "detail": {"bucket": {"name": "logs"}, "object": {"key": _KEY, "size": 42, "etag": "d41d", "version-id": "3"}},
}
_NUMBERS = frozenset("version srcport dstport protocol packets bytes start end tcp-flags traffic-path".split())


def _notifications() -> list[bytes]:
    messages = [_S3_EVENT, _EVENTBRIDGE, {"Event": "s3:TestEvent"}]
    messages += [{"Type": "Notification", "Message": json.dumps(message)} for message in messages]
    return [json.dumps(message).encode() for message in messages]


def _texts() -> list[bytes]:
    logs = [golden.data for golden in GOLDEN]
    small = [b"\n".join(log.split(b"\n")[:3]) for log in logs]
    packed = [gzip.compress(small[0]), gzip.compress(small[0]) * 2, pa.compress(small[0], "zstd", asbytes=True)]
    by_names = b"1764000059 10.0.0.1 7 ACCEPT\n- 2001:db8::1 - REJECT\n"
    exported = b"2026-01-01T00:00:00.000Z " + by_names
    return [b"\2" + log for log in (*logs, *small, *packed)] + [b"\1" + by_names, b"\3" + exported]


def _parquets() -> list[bytes]:
    files = []
    for golden in GOLDEN:
        records = [
            {name: None if text == "-" else int(text) if name in _NUMBERS else text for name, text in record.items()}
            for record in golden.records()[-3:]
        ]
        names = list(records[0])[:8]
        files += [encode_parquet(records, names, compression=codec)[4:] for codec in ("none", "snappy", "gzip", "zstd")]
    return files


SEEDS: Mapping[str, Callable[[], list[bytes]]] = {
    "notification": _notifications,
    "text": _texts,
    "parquet": _parquets,
}
"""The first inputs of each target."""

_JSON = ("null", "true", "[]", "{}", '""', "-1", "1e9", "%2B", "%", "+", "\\u0000", "\\ud800", "s3:", "2.0", "3.0")
_NAMES = ("Records", "eventVersion", "eventName", "ObjectCreated:Copy", "s3", "bucket", "name", "object", "key", "size",
          "eTag", "versionId", "Type", "Notification", "Message", "Event", "s3:TestEvent", "detail-type", "detail",
          "Object Created", "source", "aws.s3", "version", "etag", "version-id")  # fmt: skip
_VALUES = ("-", "OK", "NODATA", "SKIPDATA", "ACCEPT", "REJECT", "::1", "10.0.0.1", "1764000059", "1764000059123", "0x1",
           "65536", "\t", "\r")  # fmt: skip
WORDS: Mapping[str, Sequence[bytes]] = {
    "notification": [word.encode() for word in (*_JSON, *_NAMES)],
    "text": [word.encode() for word in (*_VALUES, *(field.name for field in FIELDS))],
    "parquet": [b"PAR1"],
}
"""Words that mutation may put in."""
