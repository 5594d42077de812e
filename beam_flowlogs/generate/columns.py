"""Rows into the columns of a format: the one place where numbers and indices become a flow log's fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_flowlogs.fields import field_of
from beam_flowlogs.generate.rows import OK, STATUSES, Bools, Rows
from beam_flowlogs.generate.traffic import TCP
from beam_flowlogs.generate.world import World

_NUMBERS = ("srcport", "dstport", "protocol", "packets", "bytes", "tcp_flags")
_ADDRESSES = {"srcaddr": "src", "dstaddr": "dst", "pkt_srcaddr": "pkt_src", "pkt_dstaddr": "pkt_dst"}
_SERVICES = {"pkt_src_aws_service": "pkt_src", "pkt_dst_aws_service": "pkt_dst"}
_NEXT_HOP = "next_hop_"
_NO_SERVICE_PORTS = (443, 22)


def to_table(rows: Rows, names: Sequence[str], version: int, world: World) -> pa.Table:
    """Return ``rows`` as the columns of ``names`` (``_`` for ``-``), typed by the table of fields; null = ``-``."""
    source = _Source(rows, version, world)
    fields = [field_of(name) for name in names]
    arrays = [source.column(field.column).cast(field.kind.arrow) for field in fields]
    return pa.table(arrays, names=[field.column for field in fields])


class _Source:
    """Makes one column at a time. What tells of packets is null where there were none (NODATA, SKIPDATA)."""

    def __init__(self, rows: Rows, version: int, world: World) -> None:
        self.rows = rows
        self.version = version
        self.world = world
        self.ok: Bools = rows["status"] == OK

    def column(self, name: str) -> pa.Array:
        """Return the column ``name``."""
        if name in _NUMBERS:
            return self._where(self.ok, self.rows[name])
        if name in ("start", "end"):
            return pa.array(np.ascontiguousarray(self.rows[name]))
        if name in _ADDRESSES:
            return self._take(self.world.addresses, self.rows[_ADDRESSES[name]], self.ok)
        if name in _SERVICES:
            return self._take(self.world.services, self.rows[_SERVICES[name]], self.ok)
        if name in _SPECIAL:
            return _SPECIAL[name](self)
        if name.startswith(_NEXT_HOP):
            attribute = self.world.attributes[name.removeprefix(_NEXT_HOP)]
            return self._take(attribute, self.rows["hop"], self.ok & self.rows["egress"] & (self.rows["hop"] >= 0))
        if name.startswith(("tgw_src_", "tgw_dst_")):
            return self._attached(name.removeprefix("tgw_")[:3], name[len("tgw_src_") :])
        return self.world.attributes[name].take(pa.array(np.ascontiguousarray(self.rows["point"])))

    def _attached(self, side: str, attribute: str) -> pa.Array:
        """Return an attribute of the attachment on one side; null if it is none of ours (a VPN)."""
        # Logged on the way in, the logging attachment is the packet's source; on the way out, its destination.
        here = self.rows["egress"] == (side == "dst")
        point = np.where(here, self.rows["point"], self.rows["hop"])
        return self._take(self.world.attributes[attribute], point, self.ok & (point >= 0))

    def _where(self, valid: Bools, values: npt.NDArray[np.generic]) -> pa.Array:
        return pa.array(np.ascontiguousarray(values), mask=None if valid.all() else ~valid)

    def _take(self, values: pa.Array, indices: npt.NDArray[np.generic], valid: Bools) -> pa.Array:
        return values.take(self._where(valid, indices))

    def _choose(self, values: Sequence[str], indices: npt.NDArray[np.generic], valid: Bools) -> pa.Array:
        return self._take(pa.array(values), indices.astype(np.int8), valid)

    def constant(self, value: str | int) -> pa.Array:
        return pa.repeat(value, len(self.rows))

    def action(self) -> pa.Array:
        return self._choose(("REJECT", "ACCEPT"), self.rows["accept"], self.ok)

    def log_status(self) -> pa.Array:
        return self._choose(STATUSES, self.rows["status"], np.ones(len(self.rows), dtype=np.bool_))

    def address_type(self) -> pa.Array:
        return self._choose(("IPv4", "IPv6"), self.rows["src"] >= self.world.v6, self.ok)

    def flow_direction(self) -> pa.Array:
        return self._choose(("ingress", "egress"), self.rows["egress"], self.ok)

    def traffic_path(self) -> pa.Array:
        return self._where(self.ok & (self.rows["path"] > 0), self.rows["path"])

    def reject_reason(self) -> pa.Array:
        # Block public access refuses part of what the internet sends; security groups give no reason.
        blocked = self.ok & ~self.rows["accept"] & (self.rows["hop"] < 0) & (self.rows["src"] % 8 == 0)
        return self._choose(("BPA",), np.zeros(len(self.rows)), blocked)

    def encryption_status(self) -> pa.Array:
        nitro = np.where(self.rows["hop"] >= 0, 1, 0)
        ports = np.isin(self.rows["srcport"], _NO_SERVICE_PORTS) | np.isin(self.rows["dstport"], _NO_SERVICE_PORTS)
        return self._where(self.ok, (nitro + 2 * (ports & (self.rows["protocol"] == TCP))).astype(np.int32))

    def pair_attachment(self) -> pa.Array:
        return self._take(
            self.world.attributes["tgw_attachment_id"], self.rows["hop"], self.ok & (self.rows["hop"] >= 0)
        )

    def lost(self, here: bool) -> pa.Array:
        packets = np.where(here & ~self.rows["accept"], self.rows["packets"], 0)
        return self._where(self.ok, packets)


_SPECIAL: dict[str, Callable[[_Source], pa.Array]] = {
    "version": lambda source: source.constant(source.version),
    "action": _Source.action,
    "log_status": _Source.log_status,
    "type": _Source.address_type,
    "flow_direction": _Source.flow_direction,
    "traffic_path": _Source.traffic_path,
    "reject_reason": _Source.reject_reason,
    "encryption_status": _Source.encryption_status,
    "resource_type": lambda source: source.constant("TransitGateway"),
    "tgw_pair_attachment_id": _Source.pair_attachment,
    # What a VPC would reject, a transit gateway loses in a black hole.
    "packets_lost_blackhole": lambda source: source.lost(here=True),
    "packets_lost_no_route": lambda source: source.lost(here=False),
    "packets_lost_mtu_exceeded": lambda source: source.lost(here=False),
    "packets_lost_ttl_expired": lambda source: source.lost(here=False),
}
