"""Parts come out of a shuffle as they went in, many together; those of another version are told apart."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.part_codec import (
    SHARDS,
    OtherVersionError,
    Shard,
    decode_parts,
    encode_parts,
    shard_number,
)
from beam_flowlogs.rollup import COUNTERS, PARTS_VERSION, Part, RollUpKey

START = 1_764_000_000

keys = st.builds(
    RollUpKey,
    window_s=st.sampled_from([60, 3600]),
    start=st.sampled_from([START, START + 3600]),
    key_type=st.sampled_from(["interface", "resource", "flow_log"]),
    key=st.text(min_size=1, max_size=5),
)
parts = st.builds(
    Part,
    object_id=st.sampled_from(["a", "b"]),
    counters=st.lists(st.integers(0, 2**63), min_size=len(COUNTERS), max_size=len(COUNTERS)),
    first_seen=st.integers(0, 2**53),
    last_seen=st.integers(0, 2**53),
    dimensions=st.dictionaries(st.sampled_from(["vpc_id", "account_id"]), st.sampled_from(["v1", "v2"])),
    details=st.sampled_from([[], [2, None]]),
)


@given(st.lists(st.tuples(keys, parts), max_size=30))
def test_parts_survive_their_way_through_a_shuffle(found: list[tuple[RollUpKey, Part]]) -> None:
    again = []
    for shard, size, data in encode_parts(found):
        decoded = decode_parts(Shard.decode(shard.encode()), data)
        assert len(decoded) == size
        assert {(key.window_s, key.start, shard_number(key.key_type, key.key)) for key, _ in decoded} == {shard}
        again += decoded

    assert sorted(map(told, again)) == sorted(map(told, found))


def told(found: tuple[RollUpKey, Part]) -> str:
    key, part = found
    return repr((key, part._replace(dimensions=dict(sorted(part.dimensions.items())))))


def test_the_parts_of_one_window_travel_by_shard_and_not_one_by_one() -> None:
    part = Part("a", [0] * len(COUNTERS), 0, 0, {})
    found = [(RollUpKey(60, START, "interface", f"eni-{number:017x}"), part) for number in range(10_000)]

    sizes = {shard: size for shard, size, _ in encode_parts(found)}

    assert len(sizes) == SHARDS
    assert max(sizes.values()) < 2 * min(sizes.values())


def test_no_element_grows_with_the_number_of_interfaces() -> None:
    part = Part("a", [0] * len(COUNTERS), 0, 0, {})
    same = [(RollUpKey(60, START, "interface", "eni-1"), part)] * 2_500

    assert [size for _, size, _ in encode_parts(same)] == [1000, 1000, 500]


@pytest.mark.parametrize("version", [PARTS_VERSION + 1, "object0000000000"])
def test_parts_of_another_version_are_told_apart(version: object) -> None:
    part = Part("a", [0] * len(COUNTERS), 0, 0, {})
    ((shard, _, data),) = encode_parts([(RollUpKey(60, START, "interface", "eni-1"), part)])
    other = orjson.dumps([version, *orjson.loads(data)[1:]])

    with pytest.raises(OtherVersionError, match="version"):
        decode_parts(shard, other)
