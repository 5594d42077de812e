"""The three ways a notification takes to the queue, each through real services that wrap it in their own envelope."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.notification import parse_notification
from beam_flowlogs.s3_object import ObjectRef

pytestmark = pytest.mark.integration

KEY = "AWSLogs/aws-account-id=123456789012/a b+c=d.log.gz"  # what S3 encodes in an event, and EventBridge does not
Wire = Callable[[str, str, str], None]


def _directly(bucket: str, queue_arn: str, name: str) -> None:
    configuration: Any = {"QueueConfigurations": [{"QueueArn": queue_arn, "Events": ["s3:ObjectCreated:*"]}]}
    boto3.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


def _through_sns(*, raw: bool) -> Wire:
    def wire(bucket: str, queue_arn: str, name: str) -> None:
        sns = boto3.client("sns")
        topic = sns.create_topic(Name=name)["TopicArn"]
        attributes = {"RawMessageDelivery": "true"} if raw else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes=attributes)
        configuration: Any = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
        boto3.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)

    return wire


def _through_eventbridge(bucket: str, queue_arn: str, name: str) -> None:
    configuration: Any = {"EventBridgeConfiguration": {}}
    boto3.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    events = boto3.client("events")
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": [bucket]}}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue_arn}])


@pytest.mark.parametrize(
    ("wire", "envelope"),
    [
        pytest.param(_directly, "Records", id="S3 to SQS"),
        pytest.param(_through_sns(raw=False), "TopicArn", id="S3 to SNS to SQS"),
        pytest.param(_through_sns(raw=True), "Records", id="S3 to SNS to SQS, raw"),
        pytest.param(_through_eventbridge, "detail-type", id="S3 to EventBridge to SQS"),
    ],
)
def test_an_uploaded_object_is_announced_by_its_own_name(aws: AwsEmulator, wire: Wire, envelope: str) -> None:
    name = f"route-{uuid.uuid4().hex[:12]}"
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    s3.create_bucket(Bucket=name)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wire(name, arn, name)

    etag = s3.put_object(Bucket=name, Key=KEY, Body=b"1234")["ETag"].strip('"')

    bodies, found = _announced(url)
    assert found == [ObjectRef(name, KEY, etag=etag, size=4)]
    assert any(envelope in json.loads(body) for body in bodies)


def _announced(url: str) -> tuple[list[str], list[ObjectRef]]:
    """The bodies received until one announces an object, test events among them, and what they announce."""
    sqs = boto3.client("sqs")
    bodies: list[str] = []
    until = time.monotonic() + 20
    while time.monotonic() < until:
        received = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        bodies += [message["Body"] for message in received.get("Messages", ())]
        found = [ref for body in bodies for ref in parse_notification(body)]
        if found:
            return bodies, found
    raise AssertionError(f"nothing was announced; received: {bodies}")
