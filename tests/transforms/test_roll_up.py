"""What the merge does with what comes out of the shuffle: progress for each part merged, and for none other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from apache_beam import pvalue

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.part_codec import OtherVersionError, Shard
from beam_flowlogs.rollup import COUNTERS, PARTS_VERSION, Part, RollUpKey, merge
from beam_flowlogs.rollup_store import Merged
from beam_flowlogs.transforms import roll_up as module
from beam_flowlogs.transforms.group_parts import Grouped, Parts, keyed_parts
from beam_flowlogs.transforms.progress import NO_MESSAGE, Progress

START = 1_764_000_000
CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead-letters", ("logs",), windows=(60, 3600))


class Store:
    """Merges into nothing, and remembers how many roll-ups it was asked to merge at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def merge(self, parts: Mapping[RollUpKey, Sequence[Part]], _: Mapping[RollUpKey, str]) -> Merged:
        self.sizes.append(len(parts))
        return Merged(len(parts), 0, 0, 0, [], {key: merge(key, None, found) for key, found in parts.items()})


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def fn(store: Store, monkeypatch: pytest.MonkeyPatch) -> module._MergeFn:
    fn = module._MergeFn(CONFIG)
    monkeypatch.setattr(fn, "_store", store, raising=False)
    fn.start_bundle()
    return fn


def grouped(object_id: str, token: str, *, interfaces: int, window_s: int = 60) -> list[Grouped]:
    part = Part(object_id, [1] * len(COUNTERS), START * 1000, START * 1000, {})
    start = START // window_s * window_s
    found = [(RollUpKey(window_s, start, "interface", f"eni-{number}"), part) for number in range(interfaces)]
    return [(shard.encode(), "early", [value]) for shard, value in keyed_parts(token, found)]


def run(fn: module._MergeFn, groups: Sequence[Grouped]) -> Counter[str]:
    """Merge what was grouped; return how many parts of each message were said to be merged."""
    told: Counter[str] = Counter()
    outputs: list[Any] = [output for group in groups for output in fn.process(group)]
    outputs += [
        pvalue.TaggedOutput(output.tag, output.value.value) if isinstance(output, pvalue.TaggedOutput) else output.value
        for output in fn.finish_bundle()
    ]
    for output in outputs:
        if isinstance(output, pvalue.TaggedOutput):
            told.update(orjson.loads(output.value[1])[2])  # the rules pass it on
        else:
            told[output[0]] += Progress.decode(output[1]).merged
    return told


def test_every_part_of_a_message_is_told_of_once_whatever_travelled_together(fn: module._MergeFn, store: Store) -> None:
    groups = grouped("a", "one", interfaces=700) + grouped("b", "two", interfaces=600)
    groups += grouped("a", "one", interfaces=50, window_s=3600)

    assert run(fn, groups) == {"one": 750, "two": 600}
    assert sum(store.sizes) >= 750
    assert max(store.sizes) <= 500


def of_another_version(group: Grouped) -> Grouped:
    shard, pane, (value,) = group
    token, size, data = Parts.of(value)
    other = orjson.dumps([PARTS_VERSION + 1, *orjson.loads(data)[1:]])
    return shard, pane, [f"{token} {size}\n".encode() + other]


def test_parts_of_another_version_are_left_to_their_messages_next_delivery(fn: module._MergeFn, store: Store) -> None:
    (mine,) = grouped("a", "one", interfaces=1)
    (other,) = grouped("b", "two", interfaces=1)

    assert run(fn, [mine, of_another_version(other)]) == {"one": 1}
    assert store.sizes == [1]


def test_parts_of_another_version_that_no_message_would_bring_again_end_the_job(fn: module._MergeFn) -> None:
    (other,) = grouped("a", NO_MESSAGE, interfaces=1)

    with pytest.raises(OtherVersionError, match=f"version {PARTS_VERSION + 1}"):
        run(fn, [of_another_version(other)])


def test_a_shard_is_a_key_that_reads_the_same_on_both_sides() -> None:
    assert Shard.decode(Shard(60, START, 7).encode()) == Shard(60, START, 7)
