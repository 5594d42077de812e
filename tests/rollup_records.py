"""Random flow log records, the objects that hold them, and what a plain group-by makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from hypothesis import strategies as st

from beam_flowlogs.addresses import Addresses
from beam_flowlogs.document import Origin
from beam_flowlogs.inflate import Limits
from beam_flowlogs.part_codec import decode_parts, encode_parts
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey, merge
from beam_flowlogs.rows import Rows

START = 1_764_000_000
ACCOUNT, REGION, FLOW_LOG = "123456789012", "eu-west-1", "fl-1"
NAMES = (
    "account-id interface-id resource-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status vpc-id tcp-flags flow-direction"
).split()

Record = dict[str, Any]

_ADDRESSES = ("10.0.0.1", "10.0.0.2", "192.0.2.7", "198.51.100.9", "2001:db8::1")


@st.composite
def records(draw: st.DrawFn) -> Record:
    """One record; None is what is not logged. Few values of each, so that they meet in groups."""
    end = START + draw(st.integers(0, 299))
    status = draw(st.sampled_from(["OK"] * 8 + ["NODATA", "SKIPDATA"]))
    who: Record = {
        "account-id": draw(st.sampled_from([ACCOUNT, "unknown"])),
        "interface-id": draw(st.sampled_from(["eni-1", "eni-2", None])),
        "resource-id": draw(st.sampled_from(["nat-1", None])),
        "start": end - draw(st.integers(0, 90)),
        "end": end,
        "log-status": status,
        "vpc-id": draw(st.sampled_from(["vpc-1", None])),
        "flow-direction": draw(st.sampled_from(["ingress", "egress", None])),
    }
    if status != "OK":
        return who
    return who | {
        "srcaddr": draw(st.sampled_from(_ADDRESSES)),
        "dstaddr": draw(st.sampled_from(_ADDRESSES)),
        "srcport": draw(st.integers(0, 65535)),
        "dstport": draw(st.sampled_from([22, 53, 443, 50000])),
        "protocol": draw(st.sampled_from([1, 6, 17, 47, 58])),
        "packets": draw(st.integers(0, 10**9)),
        "bytes": draw(st.integers(0, 2**48)),
        "action": draw(st.sampled_from(["ACCEPT", "REJECT"])),
        "tcp-flags": draw(st.sampled_from([0, 1, 2, 3, 4, 6, 18, 19, 22, None])),
    }


def rows_of(chosen: Sequence[Record], names: Sequence[str] = NAMES) -> Rows:
    """Return records as the decoder gives them, in one batch."""
    lines = [" ".join(names)]
    lines += [" ".join("-" if record.get(name) is None else str(record[name]) for name in names) for record in chosen]
    found = list(decode(iter(["\n".join(lines).encode()]), Limits()))
    assert not any(rows.bad for rows in found)
    addresses = {
        name: Addresses(*(np.concatenate(arrays) for arrays in zip(*(rows.addresses[name] for rows in found))))
        for name in found[0].addresses
    }
    numbers, starts, times = map(np.concatenate, zip(*((rows.numbers, rows.starts, rows.times) for rows in found)))
    return Rows(pa.concat_batches([rows.batch for rows in found]), numbers, starts, times, addresses)


def batches(rows: Rows, places: Sequence[int]) -> Iterable[Rows]:
    """Cut rows into batches: ``places`` says for each row which one."""
    where = np.array(places)
    return [rows.pick(where == place) for place in sorted(set(places))]


def origin(number: int) -> Origin:
    return Origin("bucket", f"key-{number}", f"object{number:010}", ACCOUNT, REGION)


def through_a_shuffle(key: RollUpKey, part: Part) -> Part:
    """Return a part as it comes out of a shuffle."""
    ((shard, size, data),) = encode_parts([(key, part)])
    ((same, found),) = decode_parts(shard, data)
    assert (size, same) == (1, key)
    return found


def merged(
    key: RollUpKey, stored: Mapping[str, Any] | None, parts: Sequence[Part], pane: str = ""
) -> dict[str, Any] | None:
    """Return the document that parts are merged to, as Elasticsearch gives it back; None where nothing changes."""
    rollup = merge(key, stored, parts, pane)
    return dict(orjson.loads(rollup.document())) if rollup.changed else None


def key_of(record: Record) -> tuple[str, str]:
    for key_type, name in (("interface", "interface-id"), ("resource", "resource-id")):
        if record.get(name):
            return key_type, record[name]
    return "flow_log", FLOW_LOG


def group_by(chosen: Iterable[Record], window_s: int = 60) -> dict[tuple[int, str, str], dict[str, int]]:
    """Return the counters by window, key type and key: the plain way, a record at a time."""
    totals: dict[tuple[int, str, str], dict[str, int]] = {}
    for record in chosen:
        group = (record["end"] // window_s * window_s, *key_of(record))
        counters = totals.setdefault(group, dict.fromkeys(COUNTERS, 0))
        if record["log-status"] != "OK":
            counters[record["log-status"].lower()] += 1
            continue
        for prefix in _classes(record):
            if f"{prefix}flows" in counters:
                counters[f"{prefix}flows"] += 1
            for measure in ("bytes", "packets"):
                if prefix + measure in counters:
                    counters[prefix + measure] += record[measure]
        for name in _handshake(record["tcp-flags"] or 0):
            if name in counters:
                counters[name] += 1
    return totals


def _classes(record: Record) -> list[str]:
    protocol = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}.get(record["protocol"], "other")
    found = ["", {"ACCEPT": "accepted.", "REJECT": "rejected."}[record["action"]], f"protocol.{protocol}."]
    return [*found, f"{record['flow-direction']}."] if record["flow-direction"] else found


def _handshake(flags: int) -> list[str]:
    found = []
    if flags & 2:
        found.append("tcp.answered" if flags & 16 else "tcp.begun")
    if flags & 4:
        found.append("tcp.reset")
    return found
