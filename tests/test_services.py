"""Services are counted as a plain loop over the rows counts them, by the compiled loop and by the Python beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs import kernel
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.row_classes import Placed
from beam_flowlogs.rows import Rows
from beam_flowlogs.services import services
from tests.rollup_records import FLOW_LOG, NAMES, START, Record, origin, rows_of
from tests.test_rollup_parts import OK

WITHOUT_FLAGS = [name for name in NAMES if name != "tcp-flags"]
ADDRESSES = st.sampled_from(["0.0.0.0", "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", None])
PORTS = st.sampled_from([0, 443, 5432, 40000, None])


@st.composite
def flows(draw: st.DrawFn) -> Record:
    chosen = {
        "interface-id": st.sampled_from(["eni-1", "eni-2"]),
        "srcaddr": ADDRESSES,
        "dstaddr": ADDRESSES,
        "srcport": PORTS,
        "dstport": PORTS,
        "protocol": st.sampled_from([6, 6, 17]),
        "packets": st.sampled_from([1, 3, 4]),
        "bytes": st.sampled_from([52, 80, 240]),
        "end": st.sampled_from([START + 30, START + 90]),
        "action": st.sampled_from(["ACCEPT", "ACCEPT", "REJECT", None]),
        "tcp-flags": st.sampled_from([2, 3, 18, 19, 16, 0, None]),
    }
    return OK | {name: draw(values) for name, values in chosen.items()}


def placed_rows(chosen: Sequence[Record], names: Sequence[str]) -> tuple[Placed, Rows]:
    rows = rows_of(chosen, names)
    return PartsOfObject(origin(0), [60], FLOW_LOG).place(rows), rows


def ends(record: Record, side: str) -> tuple[Any, ...] | None:
    end = tuple(record[f"{side}{what}"] for what in ("addr", "port"))
    return None if None in end else (record["interface-id"], record["end"] // 60, *end)


def expected(chosen: Sequence[Record], *, flags: bool) -> dict[Any, tuple[int, int]]:
    whole = [
        record for record in chosen if record["action"] != "REJECT" and ends(record, "src") and ends(record, "dst")
    ]
    begun: Counter[Any] = Counter()
    answered: Counter[Any] = Counter()
    if flags:
        begun.update(ends(record, "dst") for record in whole if (record["tcp-flags"] or 0) & 18 == 2)
        answered.update(ends(record, "src") for record in whole if (record["tcp-flags"] or 0) & 18 == 18)
    else:
        tcp = [record for record in whole if record["protocol"] == 6]
        small = [record["packets"] <= 3 and record["bytes"] <= 80 * record["packets"] for record in tcp]
        tried = Counter(ends(record, "dst") for record, is_small in zip(tcp, small) if is_small)
        for record, is_small in zip(tcp, small):
            if tried[ends(record, "src")] >= 3:
                answered[ends(record, "src")] += 1
            elif is_small and tried[ends(record, "dst")] >= 3:
                begun[ends(record, "dst")] += 1
    return {service: (begun[service], answered[service]) for service in {*begun, *answered}}


@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
@settings(max_examples=150, deadline=None)
@given(chosen=st.lists(flows(), min_size=1, max_size=40))
def test_services_are_what_rows_tried_and_answered_for(chosen: list[Record], flags: bool, compiled: bool) -> None:
    placed, rows = placed_rows(chosen, NAMES if flags else WITHOUT_FLAGS)
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(kernel, "compiled", None)
        found = services(placed, rows)

    told = {}
    for row, is_source, *counts in zip(*found) if found else ():
        told[ends(chosen[row], "src" if is_source else "dst")] = tuple(map(int, counts))
    assert found is None or len(told) == len(found.rows)
    assert told == expected(chosen, flags=flags)


def test_rows_that_tell_no_service_have_none() -> None:
    for missing in ("srcaddr", "dstport"):
        names = [name for name in NAMES if name != missing]
        assert services(*placed_rows([OK], names)) is None
    assert services(*placed_rows([OK] * 9, [name for name in WITHOUT_FLAGS if name != "bytes"])) is None
