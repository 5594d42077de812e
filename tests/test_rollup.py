"""A roll-up is a union of parts: order, grouping and repetition do not matter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.elastic.rollup_template import rollup_mapping
from beam_flowlogs.rollup import (
    COUNTERS,
    PARTS_VERSION,
    NewerRollUpError,
    Part,
    RollUpKey,
    parse_window,
    parts_of,
)
from tests.rollup_records import merged

KEY = RollUpKey(60, 1_764_000_000, "interface", "eni-1")
NOW = 1_764_000_000_000

parts = st.builds(
    Part,
    object_id=st.sampled_from(["a", "b", "c", "d"]),
    counters=st.tuples(*[st.integers(0, 2**60)] * len(COUNTERS)),
    first_seen=st.integers(NOW, NOW + 60_000),
    last_seen=st.integers(NOW, NOW + 60_000),
    dimensions=st.dictionaries(st.sampled_from(["vpc_id", "account_id"]), st.sampled_from(["v1", "v2"])),
    details=st.just(()),
)
"""Parts as one object makes them: one identity, one part. See ``one_each``."""


def one_each(found: list[Part]) -> list[Part]:
    return list({part.object_id: part for part in found}.values())


def stored(document: dict[str, Any] | None) -> dict[str, Any] | None:
    """What Elasticsearch gives back."""
    return None if document is None else orjson.loads(orjson.dumps(document))


def part(object_id: str = "a", *, first: int = NOW, **counters: int) -> Part:
    return Part(object_id, tuple(counters.get(name.replace(".", "_"), 0) for name in COUNTERS), first, NOW, {})


def test_whatever_a_record_says_of_its_interface_stands_in_the_document_as_it_is() -> None:
    # What stood for the interface's name in a prepared text.
    said = {"account_id": "\x00here\x00", "vpc_id": "\x00here\x00", "subnet_id": '"},{'}

    document = stored(merged(KEY, None, [Part("a", (1,) * len(COUNTERS), NOW, NOW, said)]))

    assert document is not None
    assert document["cloud"] == {"account": {"id": "\x00here\x00"}}
    assert document["aws"] == {"vpcflow": {"vpc_id": "\x00here\x00", "subnet_id": '"},{', "interface_id": "eni-1"}}


@given(st.data())
def test_order_grouping_and_repetition_of_parts_do_not_change_the_document(data: st.DataObject) -> None:
    found = one_each(data.draw(st.lists(parts, min_size=1, max_size=4)))
    whole = merged(KEY, None, found)
    deliveries = data.draw(st.permutations(found + data.draw(st.lists(st.sampled_from(found), max_size=4))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(deliveries)), max_size=3)))

    document: dict[str, Any] | None = None
    for begin, end in zip([0, *cuts], [*cuts, len(deliveries)]):
        if begin < end:
            document = merged(KEY, stored(document), deliveries[begin:end]) or document

    assert stored(document) == stored(whole)


@given(st.lists(parts, min_size=1, max_size=4))
def test_parts_that_are_there_already_change_nothing(found: list[Part]) -> None:
    document = merged(KEY, None, one_each(found))

    assert merged(KEY, stored(document), one_each(found)) is None


@given(st.lists(parts, min_size=1, max_size=4))
def test_a_document_gives_back_the_parts_that_it_was_merged_from(found: list[Part]) -> None:
    document = stored(merged(KEY, None, one_each(found)))
    assert document is not None

    key, again = parts_of(document)

    assert key == KEY
    assert merged(key, None, again) == document


def test_a_part_of_an_object_that_is_known_replaces_it() -> None:
    document = merged(KEY, None, [part(flows=1), part("b", flows=10)])

    document = merged(KEY, stored(document), [part(flows=2)])

    assert document is not None
    assert document["flowlogs"]["rollup"]["flows"] == 12


def test_skipped_data_makes_the_roll_up_incomplete() -> None:
    whole = merged(KEY, None, [part(flows=1, nodata=1)])
    holey = merged(KEY, stored(whole), [part("b", skipdata=1)])

    assert whole is not None
    assert whole["flowlogs"]["rollup"]["complete"] is True
    assert holey is not None
    assert holey["flowlogs"]["rollup"]["complete"] is False


def test_a_part_of_an_earlier_version_counts_0_for_what_it_did_not_know() -> None:
    document = stored(merged(KEY, None, [part(flows=1)]))
    assert document is not None
    _forget_last_counter(document)

    again = merged(KEY, document, [part("b", flows=2, **{COUNTERS[-1].replace(".", "_"): 5})])

    assert again is not None
    told: Any = again["flowlogs"]["rollup"]
    for name in COUNTERS[-1].split("."):
        told = told[name]
    assert (again["flowlogs"]["rollup"]["flows"], told) == (3, 5)


def test_a_roll_up_of_a_later_version_is_left_as_it_is() -> None:
    document = stored(merged(KEY, None, [part(flows=1)]))
    assert document is not None
    document["flowlogs"]["rollup"]["version"] = PARTS_VERSION + 1

    with pytest.raises(NewerRollUpError, match="run the newer release, then replay"):
        merged(KEY, document, [part("b", flows=2)])


def test_a_roll_up_from_before_there_were_versions_is_merged_into() -> None:
    document = stored(merged(KEY, None, [part(flows=1)]))
    assert document is not None
    del document["flowlogs"]["rollup"]["version"]

    again = merged(KEY, document, [part("b", flows=2)])

    assert again is not None
    assert (again["flowlogs"]["rollup"]["flows"], again["flowlogs"]["rollup"]["version"]) == (3, PARTS_VERSION)


def _forget_last_counter(document: dict[str, Any]) -> None:
    (known,) = document["flowlogs"]["rollup"]["parts"].values()
    known[0].pop()


def test_a_document_tells_its_window_and_its_interface() -> None:
    document = merged(KEY, None, [part(flows=1, first=NOW + 500)])

    assert document is not None
    assert document["@timestamp"] == "2025-11-24T16:00:00Z"
    assert document["event"] == {
        "kind": "metric", "start": "2025-11-24T16:00:00Z", "end": "2025-11-24T16:01:00Z",
    }  # fmt: skip
    assert document["flowlogs"]["rollup"]["first_seen"] == "2025-11-24T16:00:00.500Z"
    assert document["aws"]["vpcflow"]["interface_id"] == "eni-1"
    assert (KEY.index_name, KEY.id) == ("flowlogs-rollup-2025.11", "60s-1764000000-interface-eni-1")


def test_no_two_roll_ups_share_an_id_and_each_is_short_enough_for_elasticsearch() -> None:
    long = "x" * 600
    keys = [KEY._replace(key=key) for key in ("nat-1", long, long + "y", "é" * 300, "~")]
    keys += [key._replace(key_type="resource") for key in keys]

    assert len({key.id for key in keys}) == len(keys)
    assert max(len(key.id.encode()) for key in keys) <= 512


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("5m", 300), ("1h", 3600), ("24h", 86_400)])
def test_a_window_that_divides_a_day_is_understood(text: str, seconds: int) -> None:
    assert parse_window(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "0s", "7m", "25h", "1d", "-60s", "1.5h", "60s "])
def test_any_other_window_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match=r"divides a day, such as 60s, 5m or 1h"):
        parse_window(text)


def test_the_docs_explain_every_field() -> None:
    page = (Path(__file__).parent.parent / "docs/rollups.md").read_text()
    table = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    told: set[str] = set()
    for cell in table:
        first, *others = re.findall(r"`([^`]+)`", cell) or [""]
        told |= {f"{first}.{name}" for name in others} if " with " in cell else {first, *others}

    def leaves(node: dict[str, Any], path: str) -> list[str]:
        found = node.get("properties", {})
        return [leaf for name in found for leaf in leaves(found[name], f"{path}{name}.")] if found else [path[:-1]]

    fields = {leaf.removeprefix("flowlogs.rollup.") for leaf in leaves(rollup_mapping(), "")}
    assert fields - told == set()
