from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest

from beam_flowlogs.bulk_item import ItemFormat, are_items, split_body

NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


def render(item_format: ItemFormat, document: dict[str, Any]) -> list[Any]:
    item = item_format.render(document, NOON)
    assert item.endswith(b"\n")
    return [json.loads(line) for line in item.splitlines()]


def test_an_item_is_an_action_and_the_document_without_its_id() -> None:
    assert render(ItemFormat("flows"), {"_id": "7", "bytes": 5}) == [
        {"create": {"_index": "flows", "_id": "7"}},
        {"bytes": 5},
    ]


def test_an_id_that_is_a_field_of_its_own_stays_in_the_document() -> None:
    assert render(ItemFormat("flows", id="flow"), {"flow": 7}) == [
        {"create": {"_index": "flows", "_id": "7"}},
        {"flow": 7},
    ]


def test_an_index_pattern_takes_the_elements_timestamp() -> None:
    assert render(ItemFormat("flows-%Y.%m.%d"), {"_id": "7"})[0]["create"]["_index"] == "flows-2026.03.04"


@pytest.mark.parametrize(
    "time",
    [
        1767225600000,
        "2026-01-01T00:00:00Z",
        "2026-01-01T01:00:00+01:00",
        datetime(2026, 1, 1),
        datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_an_index_pattern_takes_the_event_time_of_a_field_in_utc(time: object) -> None:
    item_format = ItemFormat("flows-%Y.%m.%d", time="@timestamp")
    action, document = render(item_format, {"_id": "7", "@timestamp": time})
    assert action["create"]["_index"] == "flows-2026.01.01"
    assert "@timestamp" in document


def test_an_index_may_be_a_function_of_the_event_time() -> None:
    item_format = ItemFormat(lambda time: f"flows-{time.year}")
    assert render(item_format, {"_id": "7"})[0]["create"]["_index"] == "flows-2026"


def test_routing_and_external_version_go_into_the_action() -> None:
    item_format = ItemFormat("flows", "index", routing="_routing", version="revision")
    assert render(item_format, {"_id": "7", "_routing": "eni", "revision": 3}) == [
        {"index": {"_index": "flows", "_id": "7", "routing": "eni", "version": 3, "version_type": "external"}},
        {"revision": 3},
    ]


def test_an_update_merges_or_makes_the_document() -> None:
    assert render(ItemFormat("flows", "update"), {"_id": "7", "a": 1}) == [
        {"update": {"_index": "flows", "_id": "7"}},
        {"doc": {"a": 1}, "doc_as_upsert": True},
    ]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"a": 1}, "no field '_id'"),
        ({"_id": ""}, "1 to 512 bytes"),
        ({"_id": "x" * 513}, "1 to 512 bytes"),
        ({"_id": "7", "a": object()}, "cannot be written as JSON"),
        ({"_id": "7", "a": "\ud800"}, "cannot be written as JSON"),
        ({"_id": "7", 5: 1}, "cannot be written as JSON"),
        ("text", "must be a dict, not str"),
    ],
)
def test_a_document_that_has_no_item_says_why(document: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ItemFormat("flows").render(document, NOON)


@pytest.mark.parametrize("time", ["yesterday", [1], 10**20, None])
def test_a_time_that_is_none_says_so(time: Any) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat|year|field"):
        ItemFormat("flows-%Y", time="t").render({"_id": "7", "t": time}, NOON)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"index": ""}, "name an index"),
        ({"index": "i", "operation": "delete"}, "'delete'"),
        ({"index": "i", "id": ""}, "writes twice"),
        ({"index": "i", "version": "v"}, "operation 'index'"),
    ],
)
def test_a_format_that_makes_no_sense_is_refused_with_the_cure(arguments: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ItemFormat(**arguments)


ITEM = b'{"create":{"_index":"i","_id":"7"}}\n{"a":1}\n'


def test_a_body_is_split_into_its_items_whatever_its_actions_and_its_last_line() -> None:
    update = b' { "update" : {"_index":"i","_id":"8"}}\n{"doc":{"a":"\\n"}}\n'
    assert split_body(ITEM) == [ITEM]
    assert split_body(ITEM + update + ITEM) == [ITEM, update, ITEM]
    assert split_body((ITEM + update)[:-1]) == [ITEM, update]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "pairs of lines"),
        (ITEM + ITEM.splitlines()[0], "pairs of lines"),
        (b'{"delete":{"_index":"i","_id":"7"}}\n', "pairs of lines"),
        (ITEM + b'{"delete":{"_index":"i","_id":"7"}}\n' + b"{}\n", "item 1 does not begin with the action"),
        (b'{"create":{"_index":"i"}}\n{"_id":"7"}\n', "item 0 has no _id"),
        (b"\n" + ITEM + b"\n", "item 0 does not begin"),
    ],
)
def test_what_is_no_body_of_items_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_body(body)


ITEM = b'{"create":{"_index":"i","_id":"1"}}\n{"n":1}\n'
DELETE = b'{"delete":{"_index":"i","_id":"1"}}\n'


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([], True),
        ([ITEM], True),
        ([ITEM, ITEM.replace(b"create", b"update"), ITEM.replace(b"create", b"index")], True),
        ([ITEM, ITEM + ITEM], False),
        ([ITEM * 2, b""], False),
        ([ITEM + DELETE, DELETE], False),
        ([ITEM, ITEM[:-1]], False),
        ([ITEM[:-1], b"\n" + ITEM], False),
        ([ITEM, DELETE * 2], False),
        ([ITEM, b"\n\n"], False),
        ([b""], False),
    ],
)
def test_an_array_of_items_is_told_from_one_of_other_bodies(
    bodies: list[bytes], expected: bool, kind: pa.DataType
) -> None:
    whole = pa.array([b"before\n", *bodies, b"after"], kind)

    assert are_items(whole.slice(1, len(bodies))) is expected
    assert are_items(pa.array(bodies, kind)) is expected
