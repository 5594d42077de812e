"""The body of one queue message in, the objects that it announces out; pure, and hardened against any text.

Understood: S3 event notifications, the same inside an SNS envelope or delivered raw, and EventBridge events.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from beam_flowlogs.s3_object import ObjectRef

__all__ = ["NotificationRejected", "parse_notification"]

KEY_LIMIT = 1024
"""Longest key that S3 allows, in bytes of UTF-8."""

_SHOWN = 120
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WRONG_QUEUE = "only S3 object notifications belong into this queue; check who else writes to it"


class NotificationRejected(ValueError):  # noqa: N818  (it says what happened)
    """A message that announces nothing we can read: ``reason`` is a code, ``detail`` what was found and the cure."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def parse_notification(body: str) -> list[ObjectRef]:
    """Return the created objects that one message announces, in its order; none for tests, removals and the like.

    Raises NotificationRejected, and nothing else. One bad record rejects the message: it is one dead letter, whole.
    """
    document = _parse_object(body)
    if document.get("Type") == "Notification" and "Message" in document:
        message = document["Message"]
        if not isinstance(message, str):
            raise NotificationRejected(
                "wrong-type", f"Message of the SNS envelope is {_show(message)}, not a string; {_WRONG_QUEUE}"
            )
        document = _parse_object(message)
    if document.get("Event") == "s3:TestEvent":
        return []
    if "Records" in document:
        return _parse_s3_event(document)
    if "detail-type" in document:
        return _parse_eventbridge(document)
    raise NotificationRejected(
        "unknown-envelope", f"a JSON object with the names {_show(list(document))}; {_WRONG_QUEUE}"
    )


def _parse_object(text: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotificationRejected("not-json", f"{_show(text)} ({error.msg}); {_WRONG_QUEUE}") from error
    if not isinstance(document, dict):
        raise NotificationRejected("not-an-object", f"JSON, but {_show(document)}; {_WRONG_QUEUE}")
    return document


def _parse_s3_event(document: dict[str, Any]) -> list[ObjectRef]:
    refs = []
    for record in _get(document, "Records", list):
        if not isinstance(record, dict):
            raise NotificationRejected("wrong-type", f"a record is {_show(record)}, not an object; {_WRONG_QUEUE}")
        _check_version("eventVersion", _get(record, "eventVersion", str), "2")
        # MinIO and others write "s3:ObjectCreated:Put" where AWS writes "ObjectCreated:Put".
        if not _get(record, "eventName", str).removeprefix("s3:").startswith("ObjectCreated:"):
            continue
        entity = _get(record, "s3", dict)
        found = _get(entity, "object", dict)
        key = _decode_key(_get(found, "key", str))
        refs.append(_to_ref(_get(entity, "bucket", dict), key, found, "eTag", "versionId"))
    return refs


def _parse_eventbridge(document: dict[str, Any]) -> list[ObjectRef]:
    source = _get(document, "source", str)
    if source != "aws.s3":
        raise NotificationRejected("unknown-envelope", f"an EventBridge event of {_show(source)}; {_WRONG_QUEUE}")
    _check_version("version", _get(document, "version", str), "0")
    if _get(document, "detail-type", str) != "Object Created":
        return []
    detail = _get(document, "detail", dict)
    found = _get(detail, "object", dict)
    # EventBridge gives the key as it is: a "+" or "%" in it is one.
    return [_to_ref(_get(detail, "bucket", dict), _get(found, "key", str), found, "etag", "version-id")]


def _check_version(name: str, version: str, major: str) -> None:
    if version.partition(".")[0] != major:
        raise NotificationRejected(
            "unknown-version", f"{name} is {_show(version)}, understood is {major}.x; update this program, then replay"
        )


def _to_ref(bucket: dict[str, Any], key: str, found: dict[str, Any], etag: str, version_id: str) -> ObjectRef:
    """Return the ref of the object ``found``; the last two are the names that the envelope has for its properties."""
    name = _get(bucket, "name", str)
    if not _BUCKET.fullmatch(name):
        raise NotificationRejected("bad-bucket", f"no bucket is named {_show(name)}; {_WRONG_QUEUE}")
    if not key or "\0" in key or len(key.encode()) > KEY_LIMIT:
        raise NotificationRejected(
            "bad-key", f"no object is named {_show(key)}: a key has 1 to {KEY_LIMIT} bytes and no NUL; {_WRONG_QUEUE}"
        )
    return ObjectRef(
        bucket=name,
        key=key,
        version_id=_get(found, version_id, str, ""),
        etag=_get(found, etag, str, "").strip('"'),
        size=_get(found, "size", int, -1),
    )


def _decode_key(text: str) -> str:
    """Decode a form-urlencoded key. Python leaves a broken escape as it is, which would name another object."""
    try:
        if not _BROKEN_ESCAPE.search(text):
            return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        pass
    raise NotificationRejected("bad-key", f"the key {_show(text)} is not form-urlencoded UTF-8; {_WRONG_QUEUE}")


def _get(found: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Return ``found[name]``, checked to be a ``kind``; absent or null it is ``default``, or a reject without one."""
    value = found.get(name)
    if value is None:
        if default is None:
            raise NotificationRejected("missing-name", f"no {name} among {_show(list(found))}; {_WRONG_QUEUE}")
        return default
    if type(value) is not kind:
        raise NotificationRejected(
            "wrong-type", f"{name} is {_show(value)}, not of type {kind.__name__}; {_WRONG_QUEUE}"
        )
    return value


def _show(value: object) -> str:
    """Return the beginning of a hostile value's repr; never all of it, a body may be a megabyte."""
    text = repr(value[:_SHOWN] if isinstance(value, (str, list)) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
