"""Names, identities and the healing stream, against a client that breaks on demand; real S3 is in integration/."""

from __future__ import annotations

import io
import logging
import pickle
from typing import Any, cast

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.response import StreamingBody
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs import s3_client as s3_client_module
from beam_flowlogs import s3_object as s3_object_module
from beam_flowlogs.s3_access import Access
from beam_flowlogs.s3_object import (
    ObjectChanged,
    ObjectRef,
    ObjectRejected,
    ObjectUnavailable,
    list_objects,
    object_id,
    open_object,
    parse_s3_url,
    s3_client,
)

REF = ObjectRef("logs", "a key")
CONTENT = bytes(range(256)) * 10
REFUSED = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


def s3_error(code: str, status: int = 400, message: str = "") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


class BreakingStream(io.BytesIO):
    """Content that breaks off with ``error`` after ``limit`` bytes."""

    def __init__(self, content: bytes, limit: int, error: Exception) -> None:
        super().__init__(content[:limit])
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            raise self.error
        return found


class FakeS3:
    """An S3 client of one object; ``troubles`` meet one GET each, in order: an error, or where the body breaks off.

    Beside it lies ``neighbour``, which can be read.
    """

    neighbour = "another key"

    def __init__(self, content: bytes = CONTENT, troubles: list[Any] | None = None) -> None:
        self.content = content
        self.etag = '"e1"'
        self.troubles = troubles or []
        self.requests: list[dict[str, Any]] = []

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": self.neighbour}]}

    def get_object(self, **request: Any) -> dict[str, Any]:
        if request.get("Key") == self.neighbour:
            return {"Body": io.BytesIO()}
        self.requests.append(request)
        trouble = self.troubles.pop(0) if self.troubles else len(self.content)
        if isinstance(trouble, Exception):
            raise trouble
        if request.get("IfMatch", self.etag) != self.etag:
            raise s3_error("PreconditionFailed", 412)
        start = int(request.get("Range", "bytes=0-")[len("bytes=") : -1])
        rest = self.content[start:]
        stream = io.BytesIO(rest)
        if trouble < len(rest):
            stream = BreakingStream(rest, trouble, ResponseStreamingError(error="reset"))
        answer = {"ETag": self.etag, "ContentLength": len(rest), "Body": StreamingBody(stream, len(rest))}
        if "Range" in request:
            answer["ContentRange"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return answer


def read(client: FakeS3, ref: ObjectRef = REF, chunk_size: int = 100, **options: Any) -> bytes:
    with open_object(cast(Any, client), ref, chunk_size=chunk_size, sleep=lambda _: None, **options) as opened:
        return b"".join(opened.chunks())


@pytest.fixture(autouse=True)
def _no_earlier_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_client_module._last_warning.clear()
    monkeypatch.setattr(s3_object_module, "access", Access())


def test_an_object_id_never_changes() -> None:
    # Document ids derive from it: another value would double everything that is indexed.
    assert object_id("logs", "a key", "e1") == "Lrxed_aGysKtffoQ"


def test_an_object_id_is_short_and_ignores_the_quotes_of_the_etag() -> None:
    assert len(object_id("b", "k", "e")) == 16
    assert object_id("b", "k", '"e"') == object_id("b", "k", "e")


@given(st.tuples(st.text(), st.text(), st.text()).map(lambda t: tuple(s.replace("\0", "").replace('"', "") for s in t)))
def test_every_part_tells_objects_apart(parts: tuple[str, str, str]) -> None:
    bucket, key, etag = parts
    others = [
        (bucket + "x", key, etag),
        (bucket, key + "x", etag),
        (bucket, key, etag + "x"),
        (bucket + key, "", etag + "y"),
    ]
    assert object_id(*parts) not in {object_id(*other) for other in others}


@pytest.mark.parametrize(
    ("url", "parts"),
    [("s3://logs/a/b c", ("logs", "a/b c")), ("s3://logs", ("logs", "")), ("s3://logs/", ("logs", ""))],
)
def test_an_s3_url_is_a_bucket_and_a_prefix(url: str, parts: tuple[str, str]) -> None:
    assert parse_s3_url(url) == parts


@pytest.mark.parametrize("url", ["", "logs/a", "s3://", "s3:///a", "S3://logs/a", "https://logs/a", "s3://b u/a"])
def test_another_url_is_refused_with_the_cure(url: str) -> None:
    with pytest.raises(ValueError, match="write s3://bucket/prefix"):
        parse_s3_url(url)


def test_an_object_is_read_in_bounded_chunks_under_the_etag_of_the_answer() -> None:
    ref = REF._replace(etag="an older one", version_id="v1")
    client = FakeS3()
    with open_object(cast(Any, client), ref, chunk_size=1000) as opened:
        assert (opened.etag, opened.size, opened.ref) == ("e1", len(CONTENT), ref)
        assert opened.id == object_id("logs", "a key", "e1")
        assert [len(chunk) for chunk in opened.chunks()] == [1000, 1000, 560]
    assert client.requests == [{"Bucket": "logs", "Key": "a key", "VersionId": "v1"}]


def test_an_empty_object_has_no_chunks() -> None:
    assert read(FakeS3(b"")) == b""


def test_a_broken_stream_goes_on_from_the_byte_it_had_reached() -> None:
    client = FakeS3(troubles=[250, REFUSED, 0, 1030])
    assert read(client) == CONTENT
    assert [request.get("Range") for request in client.requests] == [None, *["bytes=250-"] * 3, "bytes=1280-"]
    assert {request.get("IfMatch") for request in client.requests[1:]} == {'"e1"'}


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.integers(0, 700), max_size=12), st.integers(1, 3000))
def test_wherever_a_stream_breaks_each_byte_comes_once_and_in_order(breaks: list[int], chunk_size: int) -> None:
    assert read(FakeS3(troubles=list(breaks)), chunk_size=chunk_size) == CONTENT


def test_an_object_that_ends_early_without_an_error_is_resumed_too() -> None:
    client = FakeS3()
    whole = client.content
    client.content = whole[:700]
    with open_object(cast(Any, client), REF, sleep=lambda _: None) as opened:
        client.content = whole
        opened.size = len(whole)
        assert b"".join(opened.chunks()) == whole


def test_an_object_overwritten_midway_is_never_taken_for_the_first() -> None:
    client = FakeS3(troubles=[250])
    with open_object(cast(Any, client), REF, chunk_size=100, sleep=lambda _: None) as opened:
        client.etag = '"e2"'
        with pytest.raises(ObjectChanged, match="s3://logs/a key was overwritten"):
            list(opened.chunks())
    assert read(client) == CONTENT, "opened again it is read whole"


def test_a_server_that_ignores_if_match_can_not_mix_two_objects() -> None:
    client = FakeS3(troubles=[250])
    with open_object(cast(Any, client), REF, chunk_size=100, sleep=lambda _: None) as opened:
        answer = client.get_object
        client.get_object = lambda **request: answer(**request) | {"ETag": '"e2"'}  # type: ignore[method-assign]
        with pytest.raises(ObjectChanged):
            list(opened.chunks())


def test_a_server_that_ignores_the_range_does_not_double_the_start() -> None:
    client = FakeS3(troubles=[250, 700, 20])
    answer = client.get_object
    client.get_object = lambda **request: answer(Bucket="", Key="")  # type: ignore[method-assign]
    assert read(client) == CONTENT


def test_a_server_that_sends_another_range_is_not_believed() -> None:
    client = FakeS3()
    with open_object(cast(Any, client), REF, chunk_size=250, retry_for=0) as opened:
        answer = client.get_object
        client.get_object = lambda **request: answer(Range="bytes=240-")  # type: ignore[method-assign]
        chunks = opened.chunks()
        next(chunks)
        opened.close()
        with pytest.raises(ObjectUnavailable, match="bytes from 250 on, got bytes 240-2559/2560"):
            next(chunks)


def test_chunks_may_be_read_twice() -> None:
    with open_object(cast(Any, FakeS3()), REF) as opened:
        assert b"".join(opened.chunks()) == b"".join(opened.chunks()) == CONTENT


@pytest.mark.parametrize(
    ("reason", "cure", "error"),
    [
        ("object-missing", "restore", s3_error("NoSuchKey", 404)),
        ("object-missing", "restore", s3_error("NoSuchVersion", 404)),
        ("bucket-missing", "bucket's name", s3_error("NoSuchBucket", 404)),
        ("access-denied", "s3:GetObject", s3_error("AccessDenied", 403)),
        ("access-denied", "s3:GetObject", s3_error("403", 403)),
        ("object-archived", "then replay", s3_error("InvalidObjectState", 403)),
        ("key-denied", "kms:Decrypt", s3_error("AccessDenied", 403, "not authorized to perform: kms:Decrypt on ...")),
        ("key-denied", "kms:Decrypt", s3_error("KMS.DisabledException", 400)),
        ("request-refused", "act on its message", s3_error("InvalidRequest", 400, "SSE-C")),
        ("bad-name", "drop", ParamValidationError(report="Invalid bucket name")),
    ],
)
def test_an_object_that_can_not_be_read_is_rejected_at_once(reason: str, cure: str, error: Exception) -> None:
    client = FakeS3(troubles=[error])
    with pytest.raises(ObjectRejected) as caught:
        read(client)
    assert caught.value.reason == reason
    assert "s3://logs/a key" in caught.value.detail
    assert cure in caught.value.detail
    assert len(client.requests) == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class ForbiddenS3(FakeS3):
    """A bucket that denies everything, so many times; ``listed`` tells whether it says what is in it."""

    listed = True

    def __init__(self, times: int, **attributes: Any) -> None:
        super().__init__()
        self.times = times
        self.__dict__.update(attributes)

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        if not self.listed:
            raise s3_error("AccessDenied", 403)
        return super().list_objects_v2(**request)

    def get_object(self, **request: Any) -> dict[str, Any]:
        self.times -= 1
        if self.times >= 0:
            raise s3_error("AccessDenied", 403)
        return super().get_object(**request)


@pytest.mark.parametrize("listed", [True, False])
def test_a_bucket_that_denies_everything_is_waited_for(listed: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert read(cast(Any, ForbiddenS3(20, listed=listed))) == CONTENT
    assert "s3:ListBucket" in caplog.text
    with pytest.raises(ObjectUnavailable, match="no other object can be read"):
        read(ForbiddenS3(1000), retry_for=0.0)


def test_in_a_bucket_where_objects_were_read_a_denial_is_of_the_object_though_none_is_listed() -> None:
    assert read(FakeS3(), REF._replace(key="read before")) == CONTENT

    class OneForbidden(ForbiddenS3):
        def get_object(self, **request: Any) -> dict[str, Any]:
            if request["Key"] == "read before":
                return {"Body": io.BytesIO()}
            return super().get_object(**request)

    with pytest.raises(ObjectRejected, match="access-denied"):
        read(OneForbidden(1000, listed=False))


def test_a_bucket_that_denies_for_long_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(s3_object_module, "access", Access(lambda: now))
    with pytest.raises(ObjectUnavailable):
        read(ForbiddenS3(1000), retry_for=0.0)
    now = 4000.0
    with pytest.raises(ObjectUnavailable):  # for all we know nothing can be read anywhere
        read(ForbiddenS3(1000), retry_for=0.0)
    read(FakeS3(), REF._replace(bucket="others"))

    with pytest.raises(ObjectRejected, match="access-denied"):
        read(ForbiddenS3(1000), retry_for=0.0)


def test_a_refusal_on_the_way_to_credentials_says_nothing_of_an_object() -> None:
    error = ClientError(s3_error("AccessDenied", 403).response, "AssumeRole")
    with pytest.raises(ObjectUnavailable, match="check the credentials"):
        read(FakeS3(troubles=[error] * 1000), retry_for=0.0)


ENVIRONMENT = [
    ("lower the parallelism", s3_error("SlowDown", 503)),
    ("lower the parallelism", s3_error("InternalError", 500)),
    ("lower the parallelism", s3_error("AWS.SimpleQueueService.OverLimit", 403)),
    ("lower the parallelism", s3_error("KMS.ThrottlingException", 400)),
    ("check the network", s3_error("RequestTimeout", 400)),
    ("check the network", s3_error("404", 404)),
    ("check the network", s3_error("", 404)),
    ("check the network", s3_error("", 400)),
    ("check the network", s3_error("PermanentRedirect", 301)),
    ("lower the parallelism", s3_error("", 502)),
    ("lower the parallelism", s3_error("TooManyRequests", 429)),
    ("check the network", REFUSED),
    ("check the network", ReadTimeoutError(endpoint_url="x")),
    ("check the credentials", s3_error("ExpiredToken", 400)),
    ("check the credentials", s3_error("SignatureDoesNotMatch", 403)),
    ("check the credentials", NoCredentialsError()),
]


@pytest.mark.parametrize(("advice", "error"), ENVIRONMENT)
def test_a_sick_environment_is_waited_for_with_a_warning_that_says_what_to_check(
    advice: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(FakeS3(troubles=[error] * 20)) == CONTENT
    assert len(caplog.records) == 1, "one warning a minute, not one for each attempt"
    assert caplog.records[0].levelno == logging.WARNING
    assert advice in caplog.text
    assert "s3://logs/a key" in caplog.text


@pytest.mark.parametrize(("advice", "error"), ENVIRONMENT)
def test_after_retry_for_seconds_a_sick_environment_is_raised(advice: str, error: Exception) -> None:
    client = FakeS3(troubles=[error] * 1000)
    with pytest.raises(ObjectUnavailable, match=advice) as caught:
        read(client, retry_for=0.0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_waiting_backs_off_but_never_longer_than_half_a_minute() -> None:
    waits: list[float] = []
    client = FakeS3(troubles=[REFUSED] * 40)
    open_object(cast(Any, client), REF, sleep=waits.append).close()
    assert len(waits) == 40
    assert max(waits[:3]) <= 1
    assert 5 < max(waits) <= 30


def test_an_error_that_is_not_of_s3_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        read(FakeS3(troubles=[ZeroDivisionError()]))


def test_a_chunk_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        read(FakeS3(), chunk_size=0)


def test_listing_asks_again_for_the_page_that_failed() -> None:
    class Listing:
        def __init__(self, *answers: Any) -> None:
            self.answers = list(answers)
            self.requests: list[dict[str, Any]] = []

        def list_objects_v2(self, **request: Any) -> Any:
            self.requests.append(request)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    client = Listing(
        {"Contents": [{"Key": "a", "ETag": '"1"', "Size": 1}], "IsTruncated": True, "NextContinuationToken": "t"},
        REFUSED,
        {"Contents": [{"Key": "b", "ETag": '"2"', "Size": 2}], "IsTruncated": False},
    )
    refs = list(list_objects(cast(Any, client), "logs", "p/", sleep=lambda _: None))
    assert refs == [ObjectRef("logs", "a", etag="1", size=1), ObjectRef("logs", "b", etag="2", size=2)]
    assert [request.get("ContinuationToken") for request in client.requests] == [None, "t", "t"]


def test_a_process_has_one_client_that_leaves_retries_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    s3_client_module._client_of.cache_clear()
    client = s3_client()
    assert client is s3_client()
    assert client.meta.config.retries == {"total_max_attempts": 1, "mode": "standard"}  # type: ignore[attr-defined]
    s3_client_module._client_of.cache_clear()


def test_a_folder_whose_key_is_disabled_is_denied_by_itself_and_holds_up_nobody() -> None:
    keys = [f"AWSLogs/{account}/{number}" for account in (111, 222, 333) for number in range(9)]

    class OneAccountDenied:
        def list_objects_v2(self, *, Prefix: str, StartAfter: str, MaxKeys: int, **_: Any) -> dict[str, Any]:  # noqa: N803
            found = [key for key in keys if key.startswith(Prefix) and key > StartAfter]
            return {"Contents": [{"Key": key} for key in found[:MaxKeys]]}

        def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
            if Key.startswith(denied):
                raise s3_error("AccessDenied", 403)
            return {"Body": io.BytesIO()}

    for denied in ("AWSLogs/111/", "AWSLogs/222/"):
        assert Access().is_of_object(cast(Any, OneAccountDenied()), "logs", f"{denied}3")
    denied = "AWSLogs/"
    assert not Access().is_of_object(cast(Any, OneAccountDenied()), "logs", "AWSLogs/111/3")
