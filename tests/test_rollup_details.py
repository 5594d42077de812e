"""Distinct counts within their stated error, and lists of the biggest that add up across objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from beam_flowlogs.distinct import COUPON_BITS, coupons, encode, estimate_union, estimates, scramble, union
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.rollup_details import combined
from tests.rollup_records import NAMES, START, Record, batches, merged, origin, rows_of, through_a_shuffle
from tests.test_rollup_parts import OK


def rollup_of(
    *objects: Sequence[Record], details: bool = True, conversations: int = 0, cuts: int = 1
) -> dict[str, Any]:
    """The roll-up of one interface and window that these objects' records make."""
    document: dict[str, Any] | None = None
    for number, chosen in enumerate(objects):
        parts = PartsOfObject(origin(number), [60], details=details, conversations=conversations)
        for rows in batches(rows_of(chosen), [place % cuts for place in range(len(chosen))]):
            parts.add(rows)
        ((key, part),) = parts.finish()
        document = merged(key, document, [through_a_shuffle(key, part)])
    assert document is not None
    return dict(document["flowlogs"]["rollup"])


def flow(**values: Any) -> Record:
    return OK | {name.replace("_", "-"): value for name, value in values.items()}


@pytest.mark.parametrize("count", [0, 1, 10, 100, 500, 2_000, 20_000, 1_000_000])
def test_a_distinct_count_is_within_four_standard_errors(count: int) -> None:
    seen = union([coupons(scramble(np.arange(count, dtype=np.uint64)))])

    assert abs(int(estimates(seen, 1)[0]) - count) <= max(2, 4 * 0.033 * count)


def test_groups_are_counted_apart() -> None:
    hashes = coupons(scramble(np.arange(90, dtype=np.uint64)))
    groups = np.repeat(np.arange(3, dtype=np.uint64), [10, 0, 80])

    seen = union([(groups << np.uint64(COUPON_BITS)) | hashes])

    assert estimates(seen, 3).tolist() == pytest.approx([10, 0, 80], abs=3)
    assert [estimate_union([text]) if text else 0 for text in encode(seen, 3)] == estimates(seen, 3).tolist()


def test_what_two_objects_both_saw_counts_once() -> None:
    here = [flow(srcaddr=f"192.0.2.{host}", bytes=host) for host in range(1, 60)]

    once, twice = rollup_of(here), rollup_of(here, here)

    assert twice["distinct"] == once["distinct"]
    assert once["distinct"]["addresses"] == pytest.approx(60, abs=3)


@pytest.mark.parametrize("cuts", [1, 3])
def test_talkers_are_ranked_by_bytes_and_add_up_across_objects(cuts: int) -> None:
    big, small = flow(srcaddr="192.0.2.1", bytes=1000), flow(srcaddr="2001:db8::1", bytes=10)

    told = rollup_of([small, big, small], [small], cuts=cuts)

    assert told["top"]["talkers"] == [
        {"source": "192.0.2.1", "destination": "10.0.0.2", "bytes": 1000, "flows": 1},
        {"source": "2001:db8::1", "destination": "10.0.0.2", "bytes": 30, "flows": 3},
    ]
    assert told["top"]["talkers_short_by"] == 0


def test_a_list_that_left_something_out_says_how_much_it_may_be_short_by() -> None:
    told = rollup_of([flow(srcaddr=f"192.0.2.{host}", bytes=host) for host in range(1, 13)])

    assert [entry["bytes"] for entry in told["top"]["talkers"]] == list(range(12, 2, -1))
    assert told["top"]["talkers_short_by"] == 2


def test_rejected_sources_tell_how_many_ports_they_tried() -> None:
    scan = [flow(action="REJECT", srcaddr="192.0.2.9", dstport=port) for port in range(20, 60)]

    told = rollup_of([*scan, scan[0], OK], details=False)

    assert told["top"]["rejected_sources"] == [{"address": "192.0.2.9", "flows": 41, "ports": 40}]
    assert told["distinct"]["rejected_ports"] == pytest.approx(40, abs=2)
    assert told["top"]["rejected_ports"][0] == {"port": 20, "flows": 2}


def test_lists_of_interfaces_are_kept_apart_whatever_their_ports() -> None:
    parts = PartsOfObject(origin(0), [60])
    ports = dict.fromkeys(range(100), 443) | {23: 79, 80: 22}  # 23 and 79 + 1 as 80 and 22 + 1
    parts.add(rows_of([flow(interface_id=f"eni-{at}", dstport=port, action="REJECT") for at, port in ports.items()]))

    listed = {key.key: combined([part.details])["top"]["rejected_ports"] for key, part in parts.finish()}

    assert listed == {f"eni-{at}": [{"port": port, "flows": 1}] for at, port in ports.items()}


def test_a_service_that_does_not_answer_is_named_and_one_that_does_is_not() -> None:
    asked = flow(tcp_flags=2, dstaddr="198.51.100.9", dstport=5432)
    heard = flow(tcp_flags=3)
    answer = flow(tcp_flags=19, srcaddr=heard["dstaddr"], srcport=443, dstaddr=heard["srcaddr"], dstport=40000)

    told = rollup_of([asked, asked, heard], [answer], details=False)

    assert told["top"]["unanswered"] == [{"address": "198.51.100.9", "port": 5432, "missing": 2, "begun": 2}]


def test_a_rejected_attempt_is_no_unanswered_one() -> None:
    told = rollup_of([flow(tcp_flags=2, action="REJECT")], details=False)

    assert set(told["top"]) == {"rejected_sources", "rejected_ports"} | {
        "rejected_sources_short_by", "rejected_ports_short_by",
    }  # fmt: skip


def test_without_tcp_flags_small_flows_and_none_back_are_attempts_that_failed() -> None:
    def told(*chosen: Record) -> dict[str, Any]:
        parts = PartsOfObject(origin(0), [60])
        parts.add(rows_of(chosen, [name for name in NAMES if name != "tcp-flags"]))
        ((key, part),) = parts.finish()
        document = merged(key, None, [part])
        assert document is not None
        return dict(document["flowlogs"]["rollup"].get("top", {}))

    attempt = flow(dstaddr="192.0.2.9", dstport=5432, packets=2, bytes=120)
    talk = flow(dstaddr="192.0.2.9", dstport=5432, packets=20, bytes=9000)
    answer = flow(srcaddr="192.0.2.9", srcport=5432, dstaddr="10.0.0.1", dstport=40000, packets=1, bytes=52)
    dead = {"address": "192.0.2.9", "port": 5432}

    assert told(*[attempt] * 5)["unanswered"] == [dead | {"missing": 5, "begun": 5}]
    assert told(*[attempt] * 5, *[answer] * 2)["unanswered"] == [dead | {"missing": 3, "begun": 5}]
    assert "unanswered" not in told(*[attempt] * 5, *[answer] * 5)
    assert "unanswered" not in told(*[attempt] * 2)
    assert "unanswered" not in told(*[talk] * 9)
    assert "unanswered" not in told(*[attempt | {"protocol": 17}] * 9)
    assert "unanswered" not in told(*[attempt | {"action": "REJECT"}] * 9)


def test_what_every_row_takes_part_in_has_to_be_asked_for() -> None:
    told = rollup_of([OK], details=False)

    assert "top" not in told
    assert "distinct" not in told


SAID = ("source", "destination", "port", "protocol", "action")
talk = st.builds(
    flow,
    srcaddr=st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
    dstaddr=st.sampled_from(["10.0.0.9", "192.0.2.1"]),
    dstport=st.sampled_from([443, 53, 6, 17, 0, None]),
    protocol=st.sampled_from([6, 17, 0, None]),
    action=st.sampled_from(["ACCEPT", "REJECT", None]),
    bytes=st.integers(1, 3) | st.integers(1, 10**6),
)


@settings(max_examples=100, deadline=None, phases=[Phase.generate])
@given(st.lists(st.lists(talk, min_size=1, max_size=20), min_size=1, max_size=3), st.integers(1, 3))
def test_conversations_are_the_sums_of_a_plain_group_by(objects: list[list[Record]], cuts: int) -> None:
    told = rollup_of(*objects, conversations=50, cuts=cuts)

    expected: dict[tuple[Any, ...], list[int]] = {}
    for record in (record for chosen in objects for record in chosen):
        name = tuple(record[field] for field in ("srcaddr", "dstaddr", "dstport", "protocol", "action"))
        sums = expected.setdefault(name, [0, 0, 0])
        for place, value in enumerate((record["bytes"], record["packets"], 1)):
            sums[place] += value
    found = told["top"]["conversations"]
    assert {
        tuple(entry[label] for label in SAID): [entry[value] for value in ("bytes", "packets", "flows")]
        for entry in found
    } == expected
    assert [entry["bytes"] for entry in found] == sorted((entry["bytes"] for entry in found), reverse=True)
    assert told["top"]["conversations_short_by"] == 0


def test_of_conversations_the_biggest_are_kept_as_many_as_asked_for() -> None:
    chosen = [flow(srcaddr=f"192.0.2.{host}", bytes=host) for host in range(1, 200)]

    found = rollup_of(chosen[:100], chosen[100:], conversations=20, details=False)["top"]

    assert [entry["bytes"] for entry in found["conversations"]] == [*range(199, 179, -1), *range(100, 80, -1)]
    assert found["conversations_short_by"] >= 80 + 179
    assert set(found) == {"conversations", "conversations_short_by"}


def test_what_the_format_does_not_log_is_absent_from_a_conversation() -> None:
    names = [name for name in NAMES if name not in ("action", "protocol")]
    parts = PartsOfObject(origin(0), [60], conversations=5)
    parts.add(rows_of([flow(dstport=443)], names))

    ((_, part),) = parts.finish()

    assert part.details[-1][1][2:5] == [443, None, None]


def test_longer_windows_are_the_sum_of_the_shorter_ones() -> None:
    parts = PartsOfObject(origin(0), [60, 3600], details=True)
    parts.add(rows_of([flow(end=START + 60 * minute, srcaddr=f"192.0.2.{minute}") for minute in range(1, 5)]))

    found = dict(parts.finish())

    (hour,) = [part for key, part in found.items() if key.window_s == 3600]
    minutes = [part for key, part in found.items() if key.window_s == 60]
    assert len(minutes) == 4
    assert hour.counters == tuple(map(sum, zip(*(part.counters for part in minutes))))
    assert hour.details[1][0] == pytest.approx(5, abs=1)


def test_details_of_another_form_tell_nothing_and_their_part_counts() -> None:
    parts = PartsOfObject(origin(0), [60])
    parts.add(rows_of([flow(action="REJECT")], NAMES))
    ((key, part),) = parts.finish()
    earlier = part._replace(object_id="A" * 16, details=[None, None, [[0, "10.0.0.1"]]])

    document = merged(key, None, [part, earlier])

    assert document is not None
    assert document["flowlogs"]["rollup"]["flows"] == 2
    assert [entry["flows"] for entry in document["flowlogs"]["rollup"]["top"]["rejected_ports"]] == [1]
