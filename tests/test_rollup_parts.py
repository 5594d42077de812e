"""An object's parts equal a plain group-by over its records, however they are cut into batches and objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs import object_parts, rollup_details, top_list
from beam_flowlogs.inflate import DecodeError
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.part_codec import encode_parts
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey
from tests.rollup_records import (
    ACCOUNT,
    FLOW_LOG,
    NAMES,
    REGION,
    START,
    Record,
    batches,
    group_by,
    merged,
    origin,
    records,
    rows_of,
    through_a_shuffle,
)

OK: Record = {
    "account-id": ACCOUNT, "interface-id": "eni-1", "srcaddr": "10.0.0.1", "dstaddr": "10.0.0.2", "srcport": 40000,
    "dstport": 443, "protocol": 6, "packets": 3, "bytes": 200, "start": START, "end": START + 30, "action": "ACCEPT",
    "log-status": "OK",
}  # fmt: skip


def parts_of(
    chosen: Sequence[Record], names: Sequence[str] = NAMES, *, number: int = 0
) -> list[tuple[RollUpKey, Part]]:
    parts = PartsOfObject(origin(number), [60], FLOW_LOG)
    parts.add(rows_of(chosen, names))
    return parts.finish()


def counters(document: dict[str, Any]) -> dict[str, int]:
    def at(path: str) -> int:
        value = document["flowlogs"]["rollup"]
        for name in path.split("."):
            value = value[name]
        return int(value)

    return {name: at(name) for name in COUNTERS}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_into_objects_and_batches_in_any_order_gives_the_sums_of_a_plain_group_by(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(records(), min_size=1, max_size=60))
    objects = data.draw(st.lists(st.integers(0, 3), min_size=len(chosen), max_size=len(chosen)))
    found: list[tuple[RollUpKey, Part]] = []
    for number in set(objects):
        mine = [record for record, place in zip(chosen, objects) if place == number]
        places = data.draw(st.lists(st.integers(0, 2), min_size=len(mine), max_size=len(mine)))
        parts = PartsOfObject(origin(number), [60, 300], FLOW_LOG)
        for rows in batches(rows_of(mine), places):
            parts.add(rows)
        found += parts.finish()

    documents: dict[RollUpKey, dict[str, Any]] = {}
    for key, part in data.draw(st.permutations(found)):
        document = merged(key, documents.get(key), [through_a_shuffle(key, part)])
        assert document is not None
        documents[key] = document

    for window_s in (60, 300):
        of_window = {key: found for key, found in documents.items() if key.window_s == window_s}
        expected = group_by(chosen, window_s)
        assert {(key.start, key.key_type, key.key): counters(found) for key, found in of_window.items()} == expected


def test_an_account_that_is_not_known_hides_none_that_is() -> None:
    nowhere = dataclasses.replace(origin(0), account_id="")
    parts = PartsOfObject(nowhere, [60], FLOW_LOG)
    parts.add(rows_of([OK, OK | {"account-id": "unknown"}]))

    ((_, part),) = parts.finish()

    assert part.dimensions["account_id"] == ACCOUNT


def test_the_greatest_value_of_a_dimension_stays_however_rows_are_cut() -> None:
    accounts = ["111111111111", "333333333333", "222222222222"]
    parts = PartsOfObject(origin(0), [60], FLOW_LOG)
    for account in accounts:
        parts.add(rows_of([OK | {"account-id": account}]))

    ((_, part),) = parts.finish()

    assert part.dimensions["account_id"] == "333333333333"


def test_what_is_brought_together_on_the_way_changes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [
        OK | {"interface-id": f"eni-{at % 5}", "dstport": at, "bytes": at, "action": ("ACCEPT", "REJECT")[at % 2]}
        for at in range(60)
    ]

    def collected() -> list[tuple[RollUpKey, Part]]:
        parts = PartsOfObject(origin(0), [60, 300], FLOW_LOG, details=True)
        for at in range(0, len(chosen), 7):
            parts.add(rows_of(chosen[at : at + 7]))
        return sorted(parts.finish())

    at_once = collected()
    for module in (object_parts, rollup_details, top_list):
        monkeypatch.setattr(module, "_COMPACT_AT", 10)

    assert collected() == at_once


def test_a_record_counts_in_the_window_that_its_end_falls_into() -> None:
    found = parts_of([OK | {"end": START + 59}, OK | {"end": START + 60, "start": START}])

    assert sorted(key.start for key, _ in found) == [START, START + 60]


def test_a_record_of_the_future_counts_in_the_window_of_the_future() -> None:
    found = parts_of([OK | {"end": START + 86_400}])

    assert [key.start for key, _ in found] == [START + 86_400]


def test_a_record_without_an_end_counts_at_its_start() -> None:
    found = parts_of([OK | {"end": None, "start": START + 61}])

    assert [(key.start, part.last_seen) for key, part in found] == [(START + 60, (START + 61) * 1000)]


def test_a_record_without_interface_counts_under_its_resource_then_under_its_flow_log() -> None:
    nameless = OK | {"interface-id": None}

    found = parts_of([nameless | {"resource-id": "nat-1"}, nameless])

    assert sorted((key.key_type, key.key) for key, _ in found) == [("flow_log", FLOW_LOG), ("resource", "nat-1")]


def test_a_record_of_a_transit_gateway_counts_under_its_attachment() -> None:
    found = parts_of([OK | {"tgw-attachment-id": "tgw-attach-1"}], ["tgw-attachment-id", "bytes", "end", "log-status"])

    assert [(key.key_type, key.key) for key, _ in found] == [("tgw_attachment", "tgw-attach-1")]


def test_records_without_traffic_are_counted_apart_from_flows() -> None:
    empty = {"account-id": ACCOUNT, "interface-id": "eni-1", "start": START, "end": START + 30}

    ((_, part),) = parts_of([OK, empty | {"log-status": "NODATA"}, empty | {"log-status": "SKIPDATA"}])

    told = dict(zip(COUNTERS, part.counters))
    assert (told["flows"], told["nodata"], told["skipdata"], told["bytes"]) == (1, 1, 1, 200)


def test_what_a_format_does_not_log_is_not_counted() -> None:
    ((_, part),) = parts_of([OK], ["interface-id", "packets", "end"])

    told = {name: count for name, count in zip(COUNTERS, part.counters) if count}
    assert {name: told.get(name) for name in ("flows", "packets", "bytes", "accepted.flows")} == {
        "flows": 1, "packets": 3, "bytes": None, "accepted.flows": None,
    }  # fmt: skip


def test_account_and_region_come_from_the_objects_key_where_records_do_not_tell() -> None:
    ((_, part),) = parts_of([OK | {"account-id": "unknown"}])

    assert part.dimensions == {"account_id": ACCOUNT, "region": REGION}


def test_the_ecs_service_is_told_where_it_is_logged() -> None:
    names = [*NAMES, "ecs-service-name"]
    ((key, part),) = parts_of([OK, OK | {"ecs-service-name": "shop"}], names)

    document = merged(key, None, [part])

    assert document is not None
    assert document["service"] == {"name": "shop"}
    assert document["aws"]["vpcflow"] == {"interface_id": "eni-1"}


def test_a_dimension_is_the_greatest_that_rows_name_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_parts, "_TEXTS_KEPT", 5)
    names = [*NAMES, "instance-id"]
    parts = PartsOfObject(origin(0), [60], FLOW_LOG)
    for number in range(60):
        interface = f"eni-{number % 3}"
        parts.add(rows_of([OK | {"interface-id": interface, "instance-id": f"i-{number * 7 % 60:02}"}], names))

    assert len(parts._known._texts["instance_id"]) <= 5 + 2 * 3
    assert {key.key: part.dimensions["instance_id"] for key, part in parts.finish()} == {
        f"eni-{number}": f"i-{max(at * 7 % 60 for at in range(number, 60, 3)):02}" for number in range(3)
    }


def test_rows_that_are_placed_anew_are_none_too_many() -> None:
    parts = PartsOfObject(origin(0), [60], FLOW_LOG, most=1)
    first = rows_of([OK, OK])
    parts.place(first)
    with pytest.raises(DecodeError, match="more than 1"):
        parts.place(rows_of([OK | {"interface-id": "eni-2"}]))

    parts.add(first.pick(np.array([True, False])))

    assert [(key.key, part.counters[0]) for key, part in parts.finish()] == [("eni-1", 1)]


def test_what_is_kept_of_a_batch_does_not_keep_the_batch() -> None:
    parts = PartsOfObject(origin(0), [60], FLOW_LOG)
    parts.add(rows_of([OK | {"tcp-flags": 2}, *[OK] * 9_999]))

    ((rows, counts),) = parts._details._services._held
    columns = [rows.group, *counts, *chain(*rows.addresses.values(), *rows.numbers.values())]
    owners = [column if column.base is None else column.base for column in columns]
    assert len(columns) == 4 + 2 * 3 + 2 * 2
    assert all(len(column) == 1 and owner.nbytes <= 16 for column, owner in zip(columns, owners))


def test_sums_are_exact_beyond_what_a_double_holds() -> None:
    ((_, part),) = parts_of([OK | {"bytes": 2**48}] * 32 + [OK | {"bytes": 1}])

    assert dict(zip(COUNTERS, part.counters))["bytes"] == 2**53 + 1


def test_sums_are_exact_beyond_64_bits() -> None:
    ((key, part),) = parts_of([OK | {"bytes": 2**48}] * 70_000)

    assert dict(zip(COUNTERS, part.counters))["bytes"] == 70_000 << 48
    assert through_a_shuffle(key, part).counters == list(part.counters)


def test_a_part_is_small() -> None:
    big = OK | {"bytes": 2**40, "packets": 2**30, "vpc-id": "vpc-0123456789abcdef0", "flow-direction": "ingress"}

    ((_, size, data),) = encode_parts(parts_of([big] * 1000))

    assert size == 1
    assert len(data) <= 400


def test_an_object_without_rows_has_no_parts() -> None:
    assert PartsOfObject(origin(0), [60]).finish() == []
