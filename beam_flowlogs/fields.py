"""Every field of a flow log, written down once: parser, documents, index mapping, docs and tests derive from it.

``FIELDS`` are what AWS logs (records of VPC flow logs, versions 2 to 11, and of transit gateway flow logs), with the
document fields that each is copied to. ``DERIVED`` are the document fields that are computed.
Source: AWS, "Flow log records" (VPC user guide) and "Transit Gateway Flow Logs".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import pyarrow as pa

NAMESPACE = "aws.vpcflow"
"""Document path under which every logged field stands under its own name."""


class Kind(Enum):
    """How a logged value is read: its Arrow type, and the Elasticsearch type it has under its own name."""

    KEYWORD = ("keyword", pa.string())
    ADDRESS = ("ip", pa.string())
    INT32 = ("long", pa.int32())
    INT64 = ("long", pa.int64())

    def __init__(self, es_type: str, arrow: pa.DataType) -> None:
        self.es_type = es_type
        self.arrow = arrow

    @property
    def is_number(self) -> bool:
        """Whether values are written to a document without quotes."""
        return pa.types.is_integer(self.arrow)


@dataclass(frozen=True)
class Field:
    """One logged field: ``name`` as in a text header, first ``version`` to have it, and where a document holds it.

    ``copies`` maps further document paths to their Elasticsearch types (``date`` renders an epoch as ISO 8601).
    ``maximum`` bounds a number more narrowly than its type does; no logged number is negative.
    """

    name: str
    version: int
    kind: Kind
    meaning: str
    copies: Mapping[str, str] = field(default_factory=dict)
    maximum: int | None = None

    @property
    def column(self) -> str:
        """The name of the Arrow and Parquet column, and of the document field below ``aws.vpcflow``."""
        return self.name.replace("-", "_")

    @property
    def path(self) -> str:
        """The document path of the field under its own name."""
        return f"{NAMESPACE}.{self.column}"


@dataclass(frozen=True)
class Derived:
    """One computed document field: its path, its Elasticsearch type and the rule in words."""

    path: str
    es_type: str
    rule: str


LONGEST_TEXT = 8191
"""Bytes that a text may have. Longer ones cannot be searched: Lucene takes 32,766, counted as four a character."""

_MOST = 1 << 48
"""Far more than any interface carries within a capture window: a record of more is damaged."""

_K, _A, _I, _L = Kind.KEYWORD, Kind.ADDRESS, Kind.INT32, Kind.INT64


def _ecs(**paths: str) -> Mapping[str, str]:
    return MappingProxyType({path.replace("__", "."): es_type for path, es_type in paths.items()})


_VPC = (
    Field("version", 2, _I, "highest version among the chosen fields"),
    Field("account-id", 2, _K, "owner of the interface; `unknown` for service-made ones"),
    Field("interface-id", 2, _K, "network interface; absent on regional NAT gateways"),
    Field("srcaddr", 2, _A, "source address", _ecs(source__address="keyword", source__ip="ip")),
    Field("dstaddr", 2, _A, "destination address", _ecs(destination__address="keyword", destination__ip="ip")),
    Field("srcport", 2, _I, "source port, 0 for ICMP", _ecs(source__port="long"), maximum=65535),
    Field("dstport", 2, _I, "destination port, 0 for ICMP", _ecs(destination__port="long"), maximum=65535),
    Field("protocol", 2, _I, "IANA protocol number", _ecs(network__iana_number="keyword"), maximum=255),
    Field("packets", 2, _L, "packets in the capture window", _ecs(source__packets="long", network__packets="long"),
          maximum=_MOST),
    Field("bytes", 2, _L, "bytes in the capture window", _ecs(source__bytes="long", network__bytes="long"),
          maximum=_MOST),
    Field("start", 2, _L, "first packet, Unix seconds (milliseconds have been met)", _ecs(event__start="date")),
    Field("end", 2, _L, "last packet, Unix seconds (milliseconds have been met)", _ecs(event__end="date")),
    Field("action", 2, _K, "ACCEPT or REJECT", _ecs(event__action="keyword")),
    Field("log-status", 2, _K, "OK, NODATA or SKIPDATA"),
    Field("vpc-id", 3, _K, "VPC of the interface"),
    Field("subnet-id", 3, _K, "subnet of the interface"),
    Field("instance-id", 3, _K, "instance of the interface", _ecs(cloud__instance__id="keyword")),
    Field("tcp-flags", 3, _I, "TCP flags of the window: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32", maximum=65535),
    Field("type", 3, _K, "IPv4, IPv6 or EFA"),
    Field("pkt-srcaddr", 3, _A, "packet-level source address (behind NAT, of a pod)"),
    Field("pkt-dstaddr", 3, _A, "packet-level destination address"),
    Field("region", 4, _K, "region of the interface"),
    Field("az-id", 4, _K, "availability zone id", _ecs(cloud__availability_zone="keyword")),
    Field("sublocation-type", 4, _K, "wavelength, outpost or localzone"),
    Field("sublocation-id", 4, _K, "id of the sublocation"),
    Field("pkt-src-aws-service", 5, _K, "AWS service of pkt-srcaddr: S3, EC2, AMAZON, ..."),
    Field("pkt-dst-aws-service", 5, _K, "AWS service of pkt-dstaddr"),
    Field("flow-direction", 5, _K, "ingress or egress, seen from the interface", _ecs(network__direction="keyword")),
    Field("traffic-path", 5, _I, "egress: 1 same VPC, 2 internet or gateway endpoint, 3 virtual private gateway, "
          "4 peering in the region, 5 peering between regions, 6 local gateway, 7 gateway endpoint (Nitro), "
          "8 internet gateway (Nitro)"),
    Field("ecs-cluster-arn", 7, _K, "ECS cluster", _ecs(orchestrator__cluster__id="keyword")),
    Field("ecs-cluster-name", 7, _K, "ECS cluster name", _ecs(orchestrator__cluster__name="keyword")),
    Field("ecs-container-instance-arn", 7, _K, "ECS container instance"),
    Field("ecs-container-instance-id", 7, _K, "ECS container instance id"),
    Field("ecs-container-id", 7, _K, "Docker runtime id of the first container"),
    Field("ecs-second-container-id", 7, _K, "Docker runtime id of the second container"),
    Field("ecs-service-name", 7, _K, "ECS service", _ecs(service__name="keyword")),
    Field("ecs-task-definition-arn", 7, _K, "ECS task definition"),
    Field("ecs-task-arn", 7, _K, "ECS task"),
    Field("ecs-task-id", 7, _K, "ECS task id"),
    Field("reject-reason", 8, _K, "BPA (block public access), EC (encryption controls)", _ecs(event__reason="keyword")),
    Field("resource-id", 9, _K, "resource that has no interface id, such as a regional NAT gateway"),
    Field("encryption-status", 10, _I, "0 clear, 1 Nitro, 2 application layer, 3 both"),
    Field("instance-tag", 11, _K, "tag of the instance, percent-encoded as logged"),
    Field("instance-tag-2", 11, _K, "second tag of the instance, percent-encoded as logged"),
    Field("interface-tag", 11, _K, "tag of the interface, percent-encoded as logged"),
    Field("interface-tag-2", 11, _K, "second tag of the interface, percent-encoded as logged"),
    Field("asg-tag", 11, _K, "tag of the auto scaling group, percent-encoded as logged"),
    Field("asg-tag-2", 11, _K, "second tag of the auto scaling group, percent-encoded as logged"),
    Field("interface-type", 11, _K, "nat_gateway, regional_nat_gateway, network_load_balancer, transit_gateway, ..."),
    Field("next-hop-interface-id", 11, _K, "far interface"),
    Field("next-hop-subnet-id", 11, _K, "subnet of the far interface"),
    Field("next-hop-az-id", 11, _K, "availability zone of the far interface"),
    Field("next-hop-vpc-id", 11, _K, "VPC of the far interface"),
    Field("next-hop-interface-type", 11, _K, "type of the far interface"),
)  # fmt: skip

_TRANSIT_GATEWAY = (
    Field("resource-type", 6, _K, "TransitGateway"),
    Field("tgw-id", 6, _K, "transit gateway"),
    Field("tgw-attachment-id", 6, _K, "attachment that the flow was seen on"),
    Field("tgw-src-vpc-account-id", 6, _K, "account of the source VPC"),
    Field("tgw-dst-vpc-account-id", 6, _K, "account of the destination VPC"),
    Field("tgw-src-vpc-id", 6, _K, "source VPC"),
    Field("tgw-dst-vpc-id", 6, _K, "destination VPC"),
    Field("tgw-src-subnet-id", 6, _K, "source subnet"),
    Field("tgw-dst-subnet-id", 6, _K, "destination subnet"),
    Field("tgw-src-eni", 6, _K, "interface of the source attachment"),
    Field("tgw-dst-eni", 6, _K, "interface of the destination attachment"),
    Field("tgw-src-az-id", 6, _K, "availability zone of the source attachment"),
    Field("tgw-dst-az-id", 6, _K, "availability zone of the destination attachment"),
    Field("tgw-pair-attachment-id", 6, _K, "the attachment on the other side"),
    Field("packets-lost-no-route", 6, _L, "packets lost for want of a route", maximum=_MOST),
    Field("packets-lost-blackhole", 6, _L, "packets lost in a black hole route", maximum=_MOST),
    Field("packets-lost-mtu-exceeded", 6, _L, "packets lost because they were larger than the MTU", maximum=_MOST),
    Field("packets-lost-ttl-expired", 6, _L, "packets lost because their time to live ran out", maximum=_MOST),
)

FIELDS: tuple[Field, ...] = _VPC + _TRANSIT_GATEWAY
BY_COLUMN: Mapping[str, Field] = MappingProxyType({f.column: f for f in FIELDS})

DERIVED: tuple[Derived, ...] = (
    Derived("@timestamp", "date", "`end`, else `start`, else the delivery slot in the object's key"),
    Derived("event.kind", "keyword", "`event`"),
    Derived("event.category", "keyword", "[`network`]"),
    Derived("event.type", "keyword", "`connection`, with `allowed` or `denied` by action"),
    Derived("event.outcome", "keyword", "`success` for ACCEPT, `failure` for REJECT"),
    Derived("network.transport", "keyword", "IANA keyword of `protocol` in lower case"),
    Derived("network.type", "keyword", "`ipv4` or `ipv6`, from the addresses"),
    Derived("network.community_id", "keyword", "Community ID v1, seed 0; ICMP type and code count as 0"),
    Derived("related.ip", "ip", "every distinct address of the record"),
    Derived("cloud.provider", "keyword", "`aws`"),
    Derived("cloud.account.id", "keyword", "`account-id`, else the account in the object's key"),
    Derived("cloud.region", "keyword", "`region`, else the region in the object's key"),
    Derived(f"{NAMESPACE}.tcp_flags_array", "keyword", "names of the bits set in `tcp-flags`"),
    Derived("aws.s3.bucket.name", "keyword", "bucket of the object"),
    Derived("aws.s3.object.key", "keyword", "key of the object"),
    Derived("log.offset", "long", "number of the record in its object; 0 stands below the header"),
)

DEFAULT_FORMAT: tuple[str, ...] = tuple(f.name for f in _VPC if f.version == 2)
"""The field names of AWS's default format, in its order."""

TRANSIT_GATEWAY_FORMAT: tuple[str, ...] = tuple(
    "version resource-type account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id tgw-dst-vpc-account-id "
    "tgw-src-vpc-id tgw-dst-vpc-id tgw-src-subnet-id tgw-dst-subnet-id tgw-src-eni tgw-dst-eni tgw-src-az-id "
    "tgw-dst-az-id tgw-pair-attachment-id srcaddr dstaddr srcport dstport protocol packets bytes start end "
    "log-status type packets-lost-no-route packets-lost-blackhole packets-lost-mtu-exceeded "
    "packets-lost-ttl-expired tcp-flags region flow-direction pkt-src-aws-service pkt-dst-aws-service".split()
)
"""The field names of a transit gateway flow log's default format, in its order."""

TCP_FLAGS: Mapping[str, int] = MappingProxyType({"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32})
"""Names of the bits of ``tcp-flags``."""

NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
"""What a field's name looks like."""


def vpc_format(version: int) -> tuple[str, ...]:
    """Return the names of every VPC flow log field up to ``version`` (2 to 11), in AWS's order."""
    if not 2 <= version <= 11:
        raise ValueError(f"flow log version {version} is unknown: use 2 to 11")
    return tuple(f.name for f in _VPC if f.version <= version)


def field_of(name: str) -> Field:
    """Return the field called ``name`` (with ``-`` or ``_``); one that AWS added since is kept as a keyword.

    Raises ValueError for text that cannot be a field's name.
    """
    column = name.replace("-", "_")
    known = BY_COLUMN.get(column)
    if known is not None:
        return known
    if not NAME.fullmatch(name) or len(name) > 64 or column == "tcp_flags_array":
        raise ValueError(f"{name[:80]!r} is no flow log field name: names are lower-case words joined by '-'")
    return Field(column.replace("_", "-"), 0, Kind.KEYWORD, "not known to this version")


def parse_format(text: str) -> tuple[str, ...]:
    """Return the names of a format that a person wrote, separated by spaces, as ``name`` or AWS's ``${name}``.

    Raises ValueError for what is no field name, comes twice, or is unknown and almost a known name. That is taken for a
    slip: its documents would lack a field, and be corrected by no second run. A field so new can wait for an update,
    or for its object's header line, which is never doubted.
    """
    names = tuple(re.sub(r"^\$\{(.*)\}$", r"\1", word) for word in text.split())
    for name in names:
        try:
            field_of(name)
        except ValueError as error:
            raise ValueError(
                f"the format is field names separated by spaces, such as 'srcaddr dstaddr': {error}"
            ) from error
    for name in unknown_names(names):
        if alike := nearest_names(name):
            raise ValueError(f"{name!r} is no flow log field that is known: did you mean {' or '.join(alike)}?")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"the format names {', '.join(repeated)} more than once: name each field once, in order")
    return names


def unknown_names(names: Iterable[str]) -> list[str]:
    """Return the names that are none of ``FIELDS``, as those of a field that AWS adds later are."""
    return [name for name in names if name.replace("-", "_") not in BY_COLUMN]


def nearest_names(name: str) -> list[str]:
    """Return the known field names that a slip would turn into ``name``, the likeliest first; two at most."""
    return difflib.get_close_matches(name.replace("_", "-"), [f.name for f in FIELDS], n=2, cutoff=0.8)
