"""Records cut into objects, parts shuffled, panes and bundles cut anywhere, repeated: the roll-ups are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey, merge
from beam_flowlogs.rollup_store import Merged
from beam_flowlogs.transforms.group_parts import Grouped, keyed_parts
from beam_flowlogs.transforms.roll_up import _MergeFn
from tests.rollup_records import FLOW_LOG, Record, group_by, origin, records, rows_of

WINDOWS = (60, 300)
CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead-letters", ("logs",), windows=WINDOWS)


class Store:
    """Keeps documents as Elasticsearch does."""

    def __init__(self) -> None:
        self.documents: dict[RollUpKey, dict[str, Any]] = {}

    def merge(self, parts: Mapping[RollUpKey, Sequence[Part]], panes: Mapping[RollUpKey, str]) -> Merged:
        rollups = {key: merge(key, self.documents.get(key), found, panes[key]) for key, found in parts.items()}
        changed = {key: orjson.loads(rollup.document()) for key, rollup in rollups.items() if rollup.changed}
        self.documents |= changed
        return Merged(len(changed), 0, len(rollups) - len(changed), 0, [], rollups)


def counters(document: dict[str, Any]) -> dict[str, int]:
    found = {}
    for name in COUNTERS:
        value = document["flowlogs"]["rollup"]
        for step in name.split("."):
            value = value[step]
        found[name] = value
    return found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_delivery_gives_the_sums_of_a_plain_group_by(data: st.DataObject) -> None:
    chosen: list[Record] = data.draw(st.lists(records(), min_size=1, max_size=40))
    owners = data.draw(st.lists(st.integers(0, 3), min_size=len(chosen), max_size=len(chosen)))
    values: list[tuple[str, bytes]] = []
    for number in set(owners):
        collected = PartsOfObject(origin(number), WINDOWS, FLOW_LOG)
        collected.add(rows_of([record for record, owner in zip(chosen, owners) if owner == number]))
        values += [(shard.encode(), value) for shard, value in keyed_parts("token", collected.finish())]
    delivered = data.draw(st.permutations(values + data.draw(st.lists(st.sampled_from(values), max_size=5))))
    panes: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for shard, value in delivered:
        panes[shard, data.draw(st.integers(0, 2))].append(value)

    store = Store()
    fn = _MergeFn(CONFIG)
    fn._store = store  # type: ignore[assignment]
    fn.start_bundle()
    told = 0
    for (shard, number), found in data.draw(st.permutations(list(panes.items()))):
        element: Grouped = (shard, ("early", "on_time", "late")[number], found)
        told += len(list(fn.process(element)))
        if data.draw(st.booleans()):
            told += len(list(fn.finish_bundle()))
            fn.start_bundle()
    told += len(list(fn.finish_bundle()))

    assert told
    for window_s in WINDOWS:
        mine = {key: found for key, found in store.documents.items() if key.window_s == window_s}
        expected = group_by(chosen, window_s)
        assert {(key.start, key.key_type, key.key): counters(found) for key, found in mine.items()} == expected
