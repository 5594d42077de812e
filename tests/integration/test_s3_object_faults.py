"""Objects read from a real S3 server through a proxy that breaks the answers, and dead letters kept there."""

from __future__ import annotations

import json
import random
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from beam_flowlogs import s3_client as s3_client_module
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.notification import parse_notification
from beam_flowlogs.reject import DeadLetters, DeadLettersUnreadable, DeadLettersUnwritable, Reject
from beam_flowlogs.s3_client import CONFIG
from beam_flowlogs.s3_object import (
    ObjectChanged,
    ObjectRef,
    ObjectRejected,
    ObjectUnavailable,
    S3Object,
    list_objects,
    object_id,
    open_object,
    s3_client,
)
from tests.conftest import NotifiedQueue
from tests.integration.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.integration

CONTENT = random.Random(1).randbytes(5_000_000)
KEY = "logs/a b+c%2F é=1.log.gz"
ROW = Reject(
    "row", "bad-number", "bytes is 'x'; fix it", "logs", "a key", "v1", "e1", 7, b"2 1 eni- x", 1_700_000_000_123
)


def answer(code: str, status: int) -> Fault:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>planned</Message></Error>"
    return Fault(status=status, body=body.encode(), headers={"content-type": "application/xml"})


@pytest.fixture
def proxy(aws: AwsEmulator) -> Iterator[FaultProxy]:
    target = urlsplit(aws.url)
    assert target.hostname
    assert target.port
    with FaultProxy(target.hostname, target.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> S3Client:
    """The client as it is made for workers, but for patience: it goes through the proxy."""
    return boto3.session.Session().client("s3", endpoint_url=proxy.url, config=CONFIG.merge(Config(read_timeout=1)))


@pytest.fixture
def ref(aws: AwsEmulator) -> ObjectRef:
    """An object in a bucket of its own."""
    s3 = boto3.client("s3")
    bucket = f"flowlogs-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=KEY, Body=CONTENT)
    return ObjectRef(bucket, KEY)


def read(opened: S3Object) -> bytes:
    with opened:
        return b"".join(opened.chunks())


def test_an_object_is_read_through_one_connection_after_another_object(client: S3Client, ref: ObjectRef) -> None:
    # The connection goes back to the pool whole: objects are small, a handshake for each would be felt.
    for _ in range(3):
        assert read(open_object(client, ref)) == CONTENT
    pools = client._endpoint.http_session._manager.pools  # type: ignore[attr-defined]
    assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118  (no mapping, and no __iter__)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(cut_after=1_700_000), id="cut by FIN"),
        pytest.param(Fault(cut_after=1_700_000, reset=True), id="cut by RST"),
        pytest.param(Fault(cut_after=0), id="headers only"),
        pytest.param(Fault(garbage=b"SSH-2.0-OpenSSH_9.2\r\n"), id="not HTTP"),
        pytest.param(Fault(garbage=b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n<html></html"), id="not S3"),
        pytest.param(Fault(garbage=b"HTTP/1.1 200 OK\r\n\r\n<html></html"), id="not S3, of no length"),
        pytest.param(Fault(garbage=b"\0", reset=True), id="reset"),
        pytest.param(Fault(delay=1.5), id="no answer in time"),
        pytest.param(answer("SlowDown", 503), id="SlowDown"),
        pytest.param(answer("InternalError", 500), id="InternalError"),
        pytest.param(answer("RequestTimeout", 400), id="RequestTimeout"),
        pytest.param(answer("ExpiredToken", 400), id="ExpiredToken"),
        pytest.param(Fault(status=502, body=b"<html>Bad Gateway</html>"), id="a gateway's 502"),
        pytest.param(Fault(status=404, body=b"<html>nginx</html>"), id="a gateway's 404"),
    ],
)
def test_every_trouble_heals_when_it_is_over(fault: Fault, proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    proxy.fail(fault, fault)
    opened = open_object(client, ref)
    proxy.fail(Fault(cut_after=1_234_567))
    opened.close()
    proxy.fail(fault)
    assert read(opened) == CONTENT
    assert proxy.planned == 0


def test_a_large_object_passes_through_little_memory(aws: AwsEmulator, ref: ObjectRef) -> None:
    boto3.client("s3").put_object(Bucket=ref.bucket, Key="large", Body=b"x" * (40 << 20))
    client = boto3.session.Session().client("s3", config=CONFIG)
    tracemalloc.start()
    with open_object(client, ref._replace(key="large")) as opened:
        assert sum(len(chunk) for chunk in opened.chunks()) == 40 << 20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


def test_a_line_that_always_breaks_early_still_gets_on(proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    proxy.fail(*[Fault(cut_after=300_000)] * 30)
    assert read(open_object(client, ref, sleep=lambda _: None)) == CONTENT
    starts = [int(request.headers.get("range", "bytes=0-")[6:-1]) for request in proxy.requests]
    assert starts == sorted(starts)
    assert len(starts) < 25


def test_an_object_overwritten_midway_is_refused_and_read_anew(
    proxy: FaultProxy, client: S3Client, ref: ObjectRef
) -> None:
    proxy.fail(Fault(cut_after=2_000_000))
    opened = open_object(client, ref)
    chunks = opened.chunks()
    next(chunks)
    boto3.client("s3").put_object(Bucket=ref.bucket, Key=ref.key, Body=CONTENT[::-1])
    with pytest.raises(ObjectChanged, match="overwritten"):
        list(chunks)
    again = open_object(client, ref)
    assert again.id != opened.id
    assert read(again) == CONTENT[::-1]


def test_a_version_stays_readable_while_the_object_is_overwritten(proxy: FaultProxy, client: S3Client) -> None:
    s3 = boto3.client("s3")
    bucket = f"flowlogs-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key=KEY, Body=CONTENT)["VersionId"]
    proxy.fail(Fault(cut_after=2_000_000))
    opened = open_object(client, ObjectRef(bucket, KEY, version))
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"new")
    assert read(opened) == CONTENT


def test_an_object_deleted_midway_is_rejected(proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    proxy.fail(Fault(cut_after=2_000_000))
    opened = open_object(client, ref)
    boto3.client("s3").delete_object(Bucket=ref.bucket, Key=ref.key)
    with pytest.raises(ObjectRejected, match="object-missing"):
        read(opened)


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("object-missing", {"key": "none"}),
        ("bucket-missing", {"bucket": "no-such-bucket"}),
        ("bad-name", {"bucket": "a b"}),
    ],
)
def test_what_is_not_there_is_rejected(reason: str, change: dict[str, str], client: S3Client, ref: ObjectRef) -> None:
    with pytest.raises(ObjectRejected) as caught:
        open_object(client, ref._replace(**change))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("reason", "code"), [("access-denied", "AccessDenied"), ("object-archived", "InvalidObjectState")]
)
def test_an_object_that_is_refused_is_rejected_where_its_neighbour_is_not(
    reason: str, code: str, proxy: FaultProxy, client: S3Client, ref: ObjectRef
) -> None:
    boto3.client("s3").put_object(Bucket=ref.bucket, Key="elsewhere/b", Body=b"")
    proxy.fail(answer(code, 403))
    with pytest.raises(ObjectRejected) as caught:
        open_object(client, ref)
    assert caught.value.reason == reason
    own = [request for request in proxy.requests if request.path.partition("?")[0].endswith("log.gz")]
    assert len(own) == 1, "botocore does not retry beneath us"


def test_a_bucket_that_is_refused_is_waited_for(proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    boto3.client("s3").put_object(Bucket=ref.bucket, Key="logs/b", Body=b"")
    proxy.fail(*[answer("AccessDenied", 403)] * 20)
    assert read(open_object(client, ref, sleep=lambda _: None)) == CONTENT
    assert proxy.planned == 0


def test_an_endpoint_that_nobody_listens_at_is_given_up_after_the_stated_time(ref: ObjectRef) -> None:
    with FaultProxy("127.0.0.1", 1) as gone:
        url = gone.url
    client = boto3.session.Session().client("s3", endpoint_url=url, config=CONFIG)
    with pytest.raises(ObjectUnavailable, match="AWS_ENDPOINT_URL"):
        open_object(client, ref, retry_for=0.5)


def test_missing_credentials_are_waited_for_and_named(
    aws: AwsEmulator, ref: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = boto3.session.Session().client("s3", config=CONFIG)
    with pytest.raises(ObjectUnavailable, match="check the credentials"):
        open_object(client, ref, retry_for=0.5)


def test_the_workers_client_goes_where_the_environment_says(aws: AwsEmulator, ref: ObjectRef) -> None:
    s3_client_module._client_of.cache_clear()
    assert read(open_object(s3_client(), ref)) == CONTENT
    s3_client_module._client_of.cache_clear()


def test_a_listing_gives_every_object_under_the_identity_that_reading_gives(
    proxy: FaultProxy, client: S3Client, ref: ObjectRef
) -> None:
    s3 = boto3.client("s3")
    for number in range(1005):
        s3.put_object(Bucket=ref.bucket, Key=f"many/{number:04}", Body=b"x")
    proxy.fail(None, answer("SlowDown", 503), Fault(cut_after=500), Fault(status=200, body=b"<html>"))
    refs = list(list_objects(client, ref.bucket, "many/"))
    assert [found.key for found in refs] == [f"many/{number:04}" for number in range(1005)]
    assert proxy.planned == 0
    (listed,) = list_objects(client, ref.bucket, "logs/")
    assert (listed.key, listed.size) == (KEY, len(CONTENT))
    assert object_id(listed.bucket, listed.key, listed.etag) == open_object(client, ref).id


def test_the_notification_of_a_real_server_leads_to_the_object(
    make_queue: Callable[[], NotifiedQueue], client: S3Client
) -> None:
    queue = make_queue()
    boto3.client("s3").put_object(Bucket=queue.bucket, Key=KEY, Body=b"content")
    message = boto3.client("sqs").receive_message(QueueUrl=queue.queue_url, WaitTimeSeconds=10)["Messages"][0]
    (announced,) = parse_notification(message["Body"])
    assert (announced.key, announced.size) == (KEY, 7)
    with open_object(client, announced) as opened:
        assert opened.etag == announced.etag
        assert list(opened.chunks()) == [b"content"]


def test_an_sns_topic_and_eventbridge_lead_to_the_object_too(
    make_queue: Callable[[], NotifiedQueue], client: S3Client
) -> None:
    queue, s3, sqs, sns, events = (
        make_queue(),
        boto3.client("s3"),
        boto3.client("sqs"),
        boto3.client("sns"),
        boto3.client("events"),
    )
    arn = sqs.get_queue_attributes(QueueUrl=queue.queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name=queue.bucket)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [queue.bucket]}}}
    events.put_rule(Name=queue.bucket, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=queue.bucket, Targets=[{"Id": "queue", "Arn": arn}])
    s3.put_bucket_notification_configuration(
        Bucket=queue.bucket,
        NotificationConfiguration={
            "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}],
            "EventBridgeConfiguration": {},
        },
    )
    s3.put_object(Bucket=queue.bucket, Key=KEY, Body=b"content")
    refs: list[ObjectRef] = []
    bodies: list[str] = []
    while len(refs) < 2:
        received = sqs.receive_message(QueueUrl=queue.queue_url, WaitTimeSeconds=5, MaxNumberOfMessages=10)
        assert received.get("Messages"), f"only these came: {bodies}"
        for message in received["Messages"]:
            bodies.append(message["Body"])
            refs += parse_notification(message["Body"])
            sqs.delete_message(QueueUrl=queue.queue_url, ReceiptHandle=message["ReceiptHandle"])
    assert {(found.bucket, found.key, found.size) for found in refs} == {(queue.bucket, KEY, 7)}
    assert any("TopicArn" in body for body in bodies)
    assert any("detail-type" in body for body in bodies)
    assert len({open_object(client, found).id for found in refs}) == 1, "one identity, whatever way it was announced"


def test_dead_letters_are_kept_in_s3_through_every_trouble(proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    letters = DeadLetters(f"s3://{ref.bucket}/dead/letters/", client=lambda: client)
    proxy.fail(answer("SlowDown", 503), Fault(garbage=b"\0", reset=True, forward=True), Fault(delay=1.5))
    rejects = [ROW._replace(row=row) for row in range(50_000)]
    written = letters.write("row/2024/01/31/x", rejects)
    assert written == f"s3://{ref.bucket}/dead/letters/row/2024/01/31/x.avro"
    proxy.fail(answer("InternalError", 500), Fault(cut_after=1000))
    assert list(letters.read()) == [(written, reject) for reject in rejects]
    assert proxy.planned == 0


def test_a_retry_overwrites_the_dead_letters_in_s3(client: S3Client, ref: ObjectRef) -> None:
    letters = DeadLetters(f"s3://{ref.bucket}", client=lambda: client)
    assert letters.write("x", [ROW, ROW]) == letters.write("x", [ROW]) == f"s3://{ref.bucket}/x.avro"
    assert [reject for _, reject in letters.read()] == [ROW]


def test_a_broken_file_among_the_dead_letters_in_s3_is_named(client: S3Client, ref: ObjectRef) -> None:
    client.put_object(Bucket=ref.bucket, Key="dead/x.avro", Body=b"Obj\x01broken")
    with pytest.raises(DeadLettersUnreadable, match=f"s3://{ref.bucket}/dead/x.avro"):
        list(DeadLetters(f"s3://{ref.bucket}/dead", client=lambda: client).read())


def test_dead_letters_that_s3_refuses_stop_the_job(proxy: FaultProxy, client: S3Client, ref: ObjectRef) -> None:
    proxy.fail(answer("AccessDenied", 403))
    letters = DeadLetters(f"s3://{ref.bucket}/dead", client=lambda: client)
    with pytest.raises(DeadLettersUnwritable, match="s3:PutObject"):
        letters.write("x", [ROW])
