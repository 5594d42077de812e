"""The world that talks: accounts, regions, VPCs and the points that log, with every identifier and address.

A *stream* is one pair of account and region, with its own flow log. A *point* is what a record is logged by: a network
interface, a regional NAT gateway or a transit gateway attachment. Points of one stream are numbered side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_flowlogs.generate.config import REGIONS, GeneratorConfig
from beam_flowlogs.generate.rows import Floats, Ints, zipf

SPARE = "spare"
"""The role of a point that never sees traffic: its lines are NODATA."""

# The first points of a stream show every oddity once; the rest is a fleet.
_FIRST = ("web", "app", "db", "nat", "balancer", "ecs", "dns", "service", "regional-nat", SPARE, "cache", "bastion")
_FLEET = ("app", "web", "ecs", "app", "db", "web", "cache", "app", "web", SPARE)
_TRANSIT = ("spoke", "shared", "spoke", "shared", "spoke", SPARE)

_INTERFACE_TYPES = {
    "nat": "nat_gateway",
    "regional-nat": "regional_nat_gateway",
    "balancer": "network_load_balancer",
    "service": "vpc_endpoint",
}
_INSTANCES = frozenset({"web", "app", "db", "dns", "cache", "bastion", SPARE})
_COMPASS = {
    "west": "w", "east": "e", "central": "c", "north": "n", "south": "s", "southeast": "se", "northeast": "ne",
}  # fmt: skip
_SUBNETS = 4
_TRANSIT_HOSTS = 16


class Stream(NamedTuple):
    """One account and region: where its flow log is published, and the range of its points."""

    account_id: str
    region: str
    flow_log_id: str
    first: int
    end: int


class Block(NamedTuple):
    """A range of foreign addresses: the first index and how many."""

    first: int
    size: int


@dataclass(frozen=True)
class World:
    """All that does not change during a run. Arrays are by point; ``addresses`` by address index.

    Address ``i`` of the IPv4 half has its IPv6 twin at ``i + v6``. ``attributes`` hold the values of fields that belong
    to a point, null where they do not apply. ``weights`` say how busy each point is, among its stream.
    """

    streams: tuple[Stream, ...]
    roles: tuple[str, ...]
    attributes: dict[str, pa.Array]
    vpc: Ints
    phase: Ints
    weights: Floats
    addresses: pa.Array
    services: pa.Array
    v6: int
    hosts: int
    internet: Block
    noise: Block
    aws: Block
    onprem: Block
    strangers: Block

    def points(self, stream: int, roles: Sequence[str]) -> list[int]:
        """Return the points of ``stream`` that have one of ``roles``."""
        found = self.streams[stream]
        return [point for point in range(found.first, found.end) if self.roles[point] in roles]

    def key_of(self, point: int, names: Sequence[str]) -> tuple[str, str]:
        """Return the roll-up key (type and id) of ``point``, as far as a format with ``names`` tells it.

        If the format names no point, all records of a flow log share a key: its id, which stands in the objects' keys.
        """
        for name, key_type in _KEYS:
            if name in names:
                value = self.attributes[name.replace("-", "_")][point].as_py()
                if value is not None:
                    return key_type, value
        return "flow_log", next(stream.flow_log_id for stream in self.streams if point < stream.end)

    def text(self, address: int) -> str:
        """Return the address with this index as text."""
        return str(self.addresses[address])


_KEYS = (("interface-id", "interface"), ("resource-id", "resource"), ("tgw-attachment-id", "tgw_attachment"))


def build_world(config: GeneratorConfig) -> World:
    """Return the world of a run; it depends on the seed and the sizes alone."""
    rng = np.random.default_rng([config.seed, 1])
    new_id = _id_maker(rng)
    accounts = sorted({f"{rng.integers(10**11, 10**12)}" for _ in range(2 * config.accounts)})[: config.accounts]
    pairs = [(account, region) for account in accounts for region in REGIONS[: config.regions]]
    bounds = np.linspace(0, config.interfaces, len(pairs) + 1).astype(int)
    streams = tuple(
        Stream(account, region, new_id("fl-"), int(bounds[i]), int(bounds[i + 1]))
        for i, (account, region) in enumerate(pairs)
    )
    describe = _transit_point if config.tgw else _vpc_point
    values: dict[str, list[str | None]] = defaultdict(list)
    roles: list[str] = []
    hosts = _TRANSIT_HOSTS if config.tgw else 1
    own: list[tuple[str, str]] = []
    vpcs: list[int] = []
    weights = np.zeros(config.interfaces)
    for stream in streams:
        count = stream.end - stream.first
        weights[stream.first : stream.end] = rng.permutation(zipf(count, 0.9))
        networks = [_Network(new_id, stream, len(vpcs) + n) for n in range(count if config.tgw else 1 + count // 16)]
        for n in range(count):
            role = _role(n, config)
            network = networks[n * len(networks) // count]
            for name, value in describe(new_id, rng, stream, network, role).items():
                values[name].append(value)
            roles.append(role)
            vpcs.append(network.number)
            own += [network.next_address() for _ in range(hosts)]
    foreign, blocks = _foreign_addresses(rng, new_first=len(own))
    pool = own + [(v4, v6) for v4, v6, _ in foreign]
    services = [None] * len(own) + [service for _, _, service in foreign]
    return World(
        streams=streams,
        roles=tuple(roles),
        attributes={name: pa.array(column, pa.string()) for name, column in values.items()},
        vpc=np.array(vpcs, dtype=np.int64),
        phase=rng.integers(0, config.aggregation, config.interfaces),
        weights=weights,
        addresses=pa.array([v4 for v4, _ in pool] + [v6 for _, v6 in pool]),
        services=pa.array(services * 2, pa.string()),
        v6=len(pool),
        hosts=hosts,
        **blocks,
    )


def _id_maker(rng: np.random.Generator) -> Callable[[str], str]:
    return lambda prefix: prefix + rng.bytes(9).hex()[:17]


def _role(number: int, config: GeneratorConfig) -> str:
    if config.tgw:
        return _TRANSIT[number % len(_TRANSIT)]
    role = _FIRST[number] if number < len(_FIRST) else _FLEET[(number - len(_FIRST)) % len(_FLEET)]
    # Without resource-id in the format, such a record could not be told from any other's.
    return "app" if role == "regional-nat" and not config.logs("resource-id") else role


class _Network:
    """One VPC: its identifiers, and the next free private address in each of its subnets."""

    def __init__(self, new_id: Callable[[str], str], stream: Stream, number: int) -> None:
        self.number = number
        self.vpc_id = new_id("vpc-")
        self.subnets = [new_id("subnet-") for _ in range(_SUBNETS)]
        place, compass, digit = stream.region.split("-")
        self.zones = [f"{place}{_COMPASS[compass]}{digit}-az{1 + n % 3}" for n in range(_SUBNETS)]
        self.used = 0

    def subnet_of_next(self) -> int:
        return self.used % _SUBNETS

    def next_address(self) -> tuple[str, str]:
        subnet, host = self.used % _SUBNETS, self.used // _SUBNETS
        self.used += 1
        # AWS keeps the first four addresses of a subnet.
        third, fourth = subnet * 64 + host // 250, 4 + host % 250
        net = self.number % 250
        return f"10.{net}.{third}.{fourth}", f"2001:db8:{net:x}:{subnet + 1:x}::{host + 16:x}"


def _vpc_point(
    new_id: Callable[[str], str], rng: np.random.Generator, stream: Stream, network: _Network, role: str
) -> dict[str, str | None]:
    subnet = network.subnet_of_next()
    number = network.used + 1
    local_zone = subnet == _SUBNETS - 1
    point: dict[str, str | None] = dict.fromkeys(_ECS_FIELDS)
    if role == "ecs":
        point |= _ecs(rng, stream)
    return point | {
        "account_id": "unknown" if role == "service" else stream.account_id,
        "region": stream.region,
        "interface_id": None if role == "regional-nat" else new_id("eni-"),
        "resource_id": new_id("nat-") if role == "regional-nat" else None,
        "vpc_id": network.vpc_id,
        "subnet_id": None if role == "regional-nat" else network.subnets[subnet],
        "instance_id": new_id("i-") if role in _INSTANCES else None,
        "az_id": network.zones[subnet],
        "sublocation_type": "localzone" if local_zone else None,
        "sublocation_id": f"{network.zones[subnet][:-4]}-lax1-az1" if local_zone else None,
        # Percent-encoded UTF-8, as logged.
        "instance_tag": f"{role}%20{number}" if role in _INSTANCES else None,
        "instance_tag_2": "team%3Db%C3%BCro" if role in ("web", "app") else None,
        "interface_tag": f"eni-{role}-{number}",
        "interface_tag_2": None,
        "asg_tag": f"{role}-fleet" if role in ("web", "app") else None,
        "asg_tag_2": None,
        "interface_type": _INTERFACE_TYPES.get(role),
    }


_ECS_FIELDS = tuple(
    "ecs_cluster_arn ecs_cluster_name ecs_container_instance_arn ecs_container_instance_id ecs_container_id "
    "ecs_second_container_id ecs_service_name ecs_task_definition_arn ecs_task_arn ecs_task_id".split()
)


def _ecs(rng: np.random.Generator, stream: Stream) -> dict[str, str | None]:
    arn = f"arn:aws:ecs:{stream.region}:{stream.account_id}"
    cluster, service = "shop", str(rng.choice(["checkout", "catalogue", "search"]))
    task, instance = rng.bytes(16).hex(), rng.bytes(16).hex()
    return {
        "ecs_cluster_arn": f"{arn}:cluster/{cluster}",
        "ecs_cluster_name": cluster,
        "ecs_container_instance_arn": f"{arn}:container-instance/{cluster}/{instance}",
        "ecs_container_instance_id": instance,
        "ecs_container_id": rng.bytes(32).hex(),
        "ecs_second_container_id": rng.bytes(32).hex(),
        "ecs_service_name": service,
        "ecs_task_definition_arn": f"{arn}:task-definition/{service}:{rng.integers(1, 60)}",
        "ecs_task_arn": f"{arn}:task/{cluster}/{task}",
        "ecs_task_id": task,
    }


def _transit_point(
    new_id: Callable[[str], str], _rng: np.random.Generator, stream: Stream, network: _Network, _role: str
) -> dict[str, str | None]:
    return {
        "account_id": stream.account_id,
        "region": stream.region,
        # One transit gateway for each stream, named after its flow log.
        "tgw_id": "tgw-" + stream.flow_log_id.removeprefix("fl-"),
        "tgw_attachment_id": new_id("tgw-attach-"),
        "vpc_account_id": stream.account_id,
        "vpc_id": network.vpc_id,
        "subnet_id": network.subnets[0],
        "eni": new_id("eni-"),
        "az_id": network.zones[0],
    }


def _foreign_addresses(
    rng: np.random.Generator, new_first: int
) -> tuple[list[tuple[str, str, str | None]], dict[str, Block]]:
    """Return everybody else's addresses (IPv4, IPv6, AWS service) and where each block of them begins.

    All are from ranges set aside for documentation and benchmarks: nobody's real address ends in a list of attackers.
    """
    hosts = rng.permutation(1 << 17)[:8192]
    benchmark = [f"198.{18 + (h >> 16)}.{h >> 8 & 255}.{h & 255}" for h in hosts.tolist()]
    services = ("S3", "EC2", "DYNAMODB", "CLOUDFRONT", "AMAZON")
    v4: dict[str, list[tuple[str, str | None]]] = {
        "internet": [(address, None) for address in benchmark[:5000]],
        "noise": [(address, None) for address in benchmark[5000:]],
        "aws": [(f"203.0.113.{n}", services[n % len(services)]) for n in range(1, 255)],
        "onprem": [(f"172.16.{n // 250}.{1 + n % 250}", None) for n in range(500)],
        "strangers": [(f"192.0.2.{n}", None) for n in range(1, 33)],
    }
    addresses: list[tuple[str, str, str | None]] = []
    blocks: dict[str, Block] = {}
    for net, (name, members) in enumerate(v4.items()):
        blocks[name] = Block(new_first + len(addresses), len(members))
        addresses += [(text, f"2001:db8:f{net:03x}::{n + 1:x}", service) for n, (text, service) in enumerate(members)]
    return addresses, blocks
