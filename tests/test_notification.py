"""Notifications: every envelope that AWS and the emulators send, and everything that is none."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.notification import NotificationRejected, parse_notification
from beam_flowlogs.s3_object import ObjectRef

KEY = "logs/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/a.log.gz"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2024-01-31T00:00:00.000Z", "Bucket": "logs"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)


def record(key: str = KEY, event: str = "ObjectCreated:Put", version: str = "2.1", **found: Any) -> dict[str, Any]:
    return {
        "eventVersion": version,
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {
            "bucket": {"name": "logs", "arn": "arn:aws:s3:::logs"},
            "object": {"key": key, "size": 42, "eTag": ETAG, "sequencer": "0055AED6DCD90281E5"} | found,
        },
    }


def s3_event(*records: Any) -> str:
    return json.dumps({"Records": records})


def sns(message: Any) -> str:
    return json.dumps(
        {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": message}
    )


def eventbridge(key: str = KEY, kind: str = "Object Created", **changes: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "detail-type": kind,
        "source": "aws.s3",
        "detail": {
            "version": "0",
            "bucket": {"name": "logs"},
            "object": {"key": key, "size": 42, "etag": ETAG, "sequencer": "00617F08299329D189"},
        },
    } | changes


def rejection(body: str) -> NotificationRejected:
    with pytest.raises(NotificationRejected) as caught:
        parse_notification(body)
    return caught.value


def test_an_s3_event_announces_its_object() -> None:
    assert parse_notification(s3_event(record(versionId="v1"))) == [ObjectRef("logs", KEY, "v1", ETAG, 42)]


def test_several_records_announce_several_objects_in_their_order() -> None:
    refs = parse_notification(s3_event(record("a"), record("b", "ObjectRemoved:Delete"), record("c")))
    assert [ref.key for ref in refs] == ["a", "c"]


@pytest.mark.parametrize(
    "event", ["ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put", "ObjectCreated:Copy"]
)
def test_every_way_to_create_an_object_counts(event: str) -> None:
    assert len(parse_notification(s3_event(record(event=event)))) == 1


@pytest.mark.parametrize(
    "event",
    ["ObjectRemoved:DeleteMarkerCreated", "ObjectRestore:Completed", "LifecycleExpiration:Delete", "Replication:x"],
)
def test_events_that_create_nothing_announce_nothing(event: str) -> None:
    # Their records lack what a created object has: that is no fault.
    assert parse_notification(s3_event({"eventVersion": "2.3", "eventName": event, "s3": {}})) == []


@given(names)
def test_a_key_survives_the_form_encoding_of_aws_and_of_emulators(key: str) -> None:
    for encode in (lambda text: quote_plus(text, safe="/"), quote_plus, quote):
        assert parse_notification(s3_event(record(encode(key)))) == [ObjectRef("logs", key, "", ETAG, 42)]


@given(names)
def test_an_eventbridge_key_is_taken_as_it_is(key: str) -> None:
    assert parse_notification(json.dumps(eventbridge(key))) == [ObjectRef("logs", key, "", ETAG, 42)]


def test_an_eventbridge_event_carries_its_version() -> None:
    event = eventbridge()
    event["detail"]["object"]["version-id"] = "v1"
    assert parse_notification(json.dumps(event))[0].version_id == "v1"


def test_an_eventbridge_removal_announces_nothing() -> None:
    assert parse_notification(json.dumps(eventbridge(kind="Object Deleted"))) == []


@pytest.mark.parametrize("inner", [s3_event(record()), json.dumps(eventbridge())])
def test_an_sns_envelope_is_opened(inner: str) -> None:
    assert parse_notification(sns(inner)) == [ObjectRef("logs", KEY, "", ETAG, 42)]


@pytest.mark.parametrize("body", [json.dumps(TEST_EVENT), sns(json.dumps(TEST_EVENT))])
def test_the_test_event_of_the_set_up_announces_nothing(body: str) -> None:
    assert parse_notification(body) == []


def test_absent_properties_are_unknown() -> None:
    ref = parse_notification(s3_event(record(size=None, eTag=None)))[0]
    assert (ref.version_id, ref.etag, ref.size) == ("", "", -1)


def test_quotes_around_an_etag_are_dropped() -> None:
    assert parse_notification(s3_event(record(eTag=f'"{ETAG}"')))[0].etag == ETAG


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("not-json", ""),
        ("not-json", "hello"),
        ("not-json", "[" * 100_000),
        ("not-json", '{"a":' * 100_000),
        ("not-json", '{"Records": "\\ud800"}'),
        ("not-json", "\ud800"),
        ("not-json", '{"Records": NaN}'),
        ("not-json", sns("hello")),
        ("not-an-object", "null"),
        ("not-an-object", "[]"),
        ("not-an-object", '"text"'),
        ("not-an-object", sns("[]")),
        ("unknown-envelope", "{}"),
        ("unknown-envelope", '{"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}'),
        ("unknown-envelope", sns(sns(s3_event(record())))),
        ("unknown-envelope", json.dumps(eventbridge(source="my.app"))),
        ("unknown-version", s3_event(record(version="3.0"))),
        ("unknown-version", s3_event(record(version=""))),
        ("unknown-version", s3_event(record(version="1.08"))),
        ("unknown-version", json.dumps(eventbridge(version="1"))),
        ("wrong-type", sns({"Records": []})),
        ("wrong-type", '{"Records": {}}'),
        ("wrong-type", s3_event("x")),
        ("wrong-type", s3_event(record() | {"s3": []})),
        ("wrong-type", s3_event(record() | {"eventName": 7})),
        ("wrong-type", s3_event(record(size="42"))),
        ("wrong-type", s3_event(record(size=True))),
        ("wrong-type", s3_event(record(versionId=1))),
        ("wrong-type", json.dumps(eventbridge(detail=[]))),
        ("missing-name", '{"Records": null}'),
        ("missing-name", s3_event({"eventVersion": "2.1"})),
        ("missing-name", s3_event({"eventVersion": "2.1", "eventName": "ObjectCreated:Put"})),
        ("missing-name", s3_event(record() | {"s3": {"object": {"key": "k"}}})),
        ("missing-name", s3_event(record() | {"s3": {"object": {"key": "k"}, "bucket": {}}})),
        ("missing-name", json.dumps(eventbridge(detail={}))),
        ("bad-bucket", s3_event(record() | {"s3": {"object": {"key": "k"}, "bucket": {"name": "../etc"}}})),
        ("bad-key", s3_event(record(""))),
        ("bad-key", s3_event(record("a%00b"))),
        ("bad-key", s3_event(record("a\0b"))),
        ("bad-key", s3_event(record("100%"))),
        ("bad-key", s3_event(record("%zz"))),
        ("bad-key", s3_event(record("%ff"))),
        ("bad-key", s3_event(record("k" * 1025))),
        ("bad-key", json.dumps(eventbridge("\0"))),
    ],
)
def test_what_is_no_notification_is_rejected_with_its_reason(reason: str, body: str) -> None:
    error = rejection(body)
    assert error.reason == reason
    assert "check" in error.detail or "update" in error.detail, "the detail names the cure"


def test_a_reject_shows_what_was_found() -> None:
    assert "'eventVersion'" not in rejection(s3_event(record() | {"s3": None})).detail[:3]
    assert "no s3 among ['eventVersion'" in rejection(s3_event(record() | {"s3": None})).detail
    assert "'my.app'" in rejection(json.dumps(eventbridge(source="my.app"))).detail


@pytest.mark.parametrize(
    "body",
    [
        "x" * 2**20,
        json.dumps({"x" * 2**20: 1}),
        json.dumps(["x" * 2**20]),
        s3_event(record("k" * 2**20)),
        s3_event(record(size={"x": "y" * 2**20})),
        s3_event(record(version="9" * 2**20)),
        sns("\n" * 2**20),
    ],
)
def test_a_reject_never_repeats_a_large_body(body: str) -> None:
    assert len(str(rejection(body))) < 500


@given(st.text() | json_values.map(json.dumps) | json_values.map(lambda value: sns(json.dumps(value))))
def test_no_text_raises_anything_but_a_rejection(body: str) -> None:
    with contextlib.suppress(NotificationRejected):
        parse_notification(body)


@given(st.data(), json_values, st.sampled_from([s3_event(record(versionId="v")), json.dumps(eventbridge())]))
def test_a_wrong_value_anywhere_raises_nothing_but_a_rejection(data: st.DataObject, value: Any, body: str) -> None:
    document = json.loads(body)
    node: Any = document
    path: list[Any] = []
    while isinstance(node, (dict, list)) and node and (not path or data.draw(st.booleans())):
        path.append((node, data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))))
        node = node[path[-1][1]]
    parent, name = path[-1]
    parent[name] = value
    try:
        refs = parse_notification(json.dumps(document))
    except NotificationRejected:
        return
    for ref in refs:
        assert [type(part) for part in ref] == [str, str, str, str, int]
