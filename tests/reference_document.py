"""The document of one record, worked out plainly from the rules of docs/records.md: what the columns are held against.

It shares no code and no table with the package, so that a mistake in one of them shows as a difference.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

Document = dict[str, Any]

NUMBERS = frozenset(
    "version srcport dstport protocol packets bytes start end tcp-flags traffic-path encryption-status "
    "packets-lost-no-route packets-lost-blackhole packets-lost-mtu-exceeded packets-lost-ttl-expired".split()
)
COPIES = {
    "srcaddr": ["source.address", "source.ip"],
    "dstaddr": ["destination.address", "destination.ip"],
    "srcport": ["source.port"],
    "dstport": ["destination.port"],
    "bytes": ["source.bytes", "network.bytes"],
    "packets": ["source.packets", "network.packets"],
    "action": ["event.action"],
    "reject-reason": ["event.reason"],
    "flow-direction": ["network.direction"],
    "az-id": ["cloud.availability_zone"],
    "instance-id": ["cloud.instance.id"],
    "ecs-cluster-arn": ["orchestrator.cluster.id"],
    "ecs-cluster-name": ["orchestrator.cluster.name"],
    "ecs-service-name": ["service.name"],
}
TRANSPORTS = {
    0: "hopopt", 1: "icmp", 2: "igmp", 4: "ipv4", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
    58: "ipv6-icmp", 89: "ospfigp", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite",
    114: None, 253: None, 254: None, 255: None,
}  # fmt: skip
"""Keywords of the protocols that tests use; None: the number has none."""
ADDRESSES = ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr")


def reference_document(
    record: Mapping[str, str], number: int, bucket: str, key: str, account_id: str, region: str, slot_ms: int | None
) -> Document:
    """Return the document of a record (its logged text by field name); the others are what its object tells."""
    logged = {name: text for name, text in record.items() if text != "-"}
    flat: Document = {}
    for name, text in logged.items():
        value = int(text) if name in NUMBERS else text
        flat[f"aws.vpcflow.{name.replace('-', '_')}"] = value
        flat |= dict.fromkeys(COPIES.get(name, []), value)
    flat |= _times(logged, slot_ms) | _event(logged) | _network(logged) | _cloud(logged, account_id, region)
    addresses = list(dict.fromkeys(logged[name] for name in ADDRESSES if name in logged))
    if addresses:
        flat["related.ip"] = addresses
    names = [name for name, bit in _FLAGS.items() if int(logged.get("tcp-flags", 0)) & bit]
    if names:
        flat["aws.vpcflow.tcp_flags_array"] = names
    flat |= {"aws.s3.bucket.name": bucket, "aws.s3.object.key": key, "log.offset": number}
    return _nested(flat)


_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32}


def _milliseconds(text: str) -> int:
    return int(text) * (1000 if len(text.lstrip("0")) < 12 else 1)


def _date(time_ms: int) -> str:
    time = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=time_ms)
    return time.strftime("%Y-%m-%dT%H:%M:%S") + (f".{time_ms % 1000:03}" if time_ms % 1000 else "") + "Z"


def _times(logged: Mapping[str, str], slot_ms: int | None) -> Document:
    times = {f"event.{name}": _milliseconds(logged[name]) for name in ("end", "start") if name in logged}
    known = [*times.values(), *([] if slot_ms is None else [slot_ms])]
    return {"@timestamp": _date(known[0])} | {path: _date(time) for path, time in times.items()}


def _event(logged: Mapping[str, str]) -> Document:
    event: Document = {"event.kind": "event", "event.category": ["network"], "event.type": ["connection"]}
    if logged.get("action") == "ACCEPT":
        event |= {"event.type": ["connection", "allowed"], "event.outcome": "success"}
    elif logged.get("action") == "REJECT":
        event |= {"event.type": ["connection", "denied"], "event.outcome": "failure"}
    return event


def _network(logged: Mapping[str, str]) -> Document:
    network: Document = {}
    if "protocol" in logged:
        network["network.iana_number"] = str(int(logged["protocol"]))
        transport = TRANSPORTS[int(logged["protocol"])]
        if transport:
            network["network.transport"] = transport
    addresses = [logged[name] for name in ADDRESSES if name in logged]
    if addresses:
        network["network.type"] = "ipv6" if ":" in addresses[0] else "ipv4"
    flow = [logged.get(name) for name in ("srcaddr", "dstaddr", "protocol", "srcport", "dstport")]
    if None not in flow:
        source, destination, *numbers = (text or "" for text in flow)
        ends = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        if ends[0].version == ends[1].version:
            network["network.community_id"] = _community_id(ends[0].packed, ends[1].packed, *map(int, numbers))
    return network


def _community_id(source: bytes, destination: bytes, protocol: int, source_port: int, destination_port: int) -> str:
    """Community ID v1 with seed 0. ICMP's type is taken to be 0, echo reply: its counterpart is 8, echo."""
    if protocol in (1, 58):
        source_port, destination_port = 0, 8 if protocol == 1 else 0
    ends = [(source, source_port), (destination, destination_port)]
    if protocol != 58:  # type 0 of ICMPv6 has no counterpart: the direction stays
        ends.sort()
    message = bytes(2) + ends[0][0] + ends[1][0] + bytes([protocol, 0])
    if protocol in (1, 6, 17, 58, 132):
        message += b"".join(port.to_bytes(2, "big") for _, port in ends)
    return "1:" + base64.b64encode(hashlib.sha1(message).digest()).decode()


def _cloud(logged: Mapping[str, str], account_id: str, region: str) -> Document:
    cloud = {"cloud.provider": "aws"}
    account = logged.get("account-id", "unknown")
    if account != "unknown" or account_id:
        cloud["cloud.account.id"] = account if account != "unknown" else account_id
    if logged.get("region", region):
        cloud["cloud.region"] = logged.get("region", region)
    return cloud


def _nested(flat: Document) -> Document:
    tree: Document = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree
