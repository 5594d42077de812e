"""What makes the everyday traffic look real."""

from __future__ import annotations

import ipaddress
import re

import polars as pl
import pytest

from beam_flowlogs.fields import vpc_format
from beam_flowlogs.generate import GeneratorConfig, generate
from tests.generate.read_back import read_all

START = 1_767_268_800
ID = re.compile(r"[0-9a-f]{17}")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    objects: dict[str, bytes] = {}
    config = GeneratorConfig(start=START, records=60_000, interfaces=96, names=vpc_format(11))
    generate(config, objects.__setitem__)
    whole = read_all(objects).filter(pl.col("log-status") == "OK")
    numbers = ("srcport", "dstport", "protocol", "packets", "bytes", "start", "end", "tcp-flags", "traffic-path")
    return whole.with_columns(pl.col(numbers).cast(pl.Int64))


def test_tcp_udp_and_icmp_are_all_there_and_icmp_has_no_ports(frame: pl.DataFrame) -> None:
    shares = dict(frame["protocol"].value_counts(normalize=True).iter_rows())
    assert shares.keys() == {1, 6, 17}
    assert shares[6] > shares[17] > shares[1] > 0.01
    icmp = frame.filter(pl.col("protocol") == 1)
    assert icmp["srcport"].sum() == icmp["dstport"].sum() == 0
    assert frame.filter(pl.col("protocol") != 1).select(pl.min_horizontal("srcport", "dstport").min()).item() > 0


def test_addresses_are_of_the_logged_type(frame: pl.DataFrame) -> None:
    versions = {"IPv4": 4, "IPv6": 6}
    for (kind,), group in frame.group_by("type"):
        assert len(group) > 1000
        for column in ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr"):
            assert {ipaddress.ip_address(text).version for text in group[column].unique()} == {versions[str(kind)]}


def test_nobodys_real_address_is_used(frame: pl.DataFrame) -> None:
    addresses = set(frame["srcaddr"]) | set(frame["dstaddr"])
    assert not [text for text in addresses if ipaddress.ip_address(text).is_global]


def test_few_talkers_talk_much(frame: pl.DataFrame) -> None:
    flows = sorted(frame["interface-id"].value_counts()["count"].to_list(), reverse=True)
    assert sum(flows[: len(flows) // 4]) > 0.5 * sum(flows)


def test_sizes_are_possible(frame: pl.DataFrame) -> None:
    per_packet = frame["bytes"] / frame["packets"]
    assert frame["packets"].min() == 1
    assert per_packet.is_between(39, 1500).all()
    # Heavy-tailed: the mean lies far above the median.
    assert frame.select(pl.col("bytes").mean() > 3 * pl.col("bytes").median()).item()


def test_flags_fit_the_protocol_the_side_and_the_packets(frame: pl.DataFrame) -> None:
    assert set(frame.filter(pl.col("protocol") != 6)["tcp-flags"]) == {0}
    refused = frame.filter(pl.col("protocol") == 6, pl.col("action") == "REJECT")
    assert set(refused["tcp-flags"]) == {2}
    assert set(frame["tcp-flags"]) >= {0, 1, 2, 3, 18, 19}
    whole = frame.filter(pl.col("tcp-flags").is_in([3, 19]))
    assert whole["packets"].min() == 5


def test_a_request_that_is_accepted_has_its_reply(frame: pl.DataFrame) -> None:
    requests = frame.filter(pl.col("action") == "ACCEPT", pl.col("dstport").is_in([443, 5432]))
    replies = frame.select(
        "interface-id", "resource-id", "start", "end", srcaddr="dstaddr", dstaddr="srcaddr", srcport="dstport",
        dstport="srcport",
    )  # fmt: skip
    answered = requests.join(replies, on=replies.columns, how="semi", nulls_equal=True)
    # One conversation at the end of each object may be cut short.
    assert answered.height > 0.99 * requests.height > 1000


def test_rejects_come_from_outside_and_some_say_why(frame: pl.DataFrame) -> None:
    refused = frame.filter(pl.col("action") == "REJECT")
    assert 0.02 < refused.height / frame.height < 0.2
    assert set(refused["flow-direction"]) == {"ingress"}
    assert set(refused["reject-reason"]) == {"BPA", None}
    assert frame.filter(pl.col("action") == "ACCEPT")["reject-reason"].null_count() == frame.height - refused.height


def test_behind_nat_the_packets_addresses_differ(frame: pl.DataFrame) -> None:
    differs = (pl.col("srcaddr") != pl.col("pkt-srcaddr")) | (pl.col("dstaddr") != pl.col("pkt-dstaddr"))
    translated = frame.filter(differs)
    assert translated.height > 500
    assert set(translated["interface-type"]) == {"nat_gateway", "regional_nat_gateway"}


def test_a_regional_nat_gateway_logs_under_its_resource_id(frame: pl.DataFrame) -> None:
    without = frame.filter(pl.col("interface-id").is_null())
    assert without.height > 100
    assert set(without["interface-type"]) == {"regional_nat_gateway"}
    assert all(ID.fullmatch(name.removeprefix("nat-")) for name in without["resource-id"].unique())
    others = frame.filter(pl.col("interface-id").is_not_null())
    assert others["resource-id"].null_count() == others.height


def test_a_service_made_interface_has_no_known_account(frame: pl.DataFrame) -> None:
    unknown = frame.filter(pl.col("account-id") == "unknown")
    assert unknown.height > 50
    assert set(unknown["interface-type"]) == {"vpc_endpoint"}


def test_containers_tell_their_task(frame: pl.DataFrame) -> None:
    tasks = frame.filter(pl.col("ecs-task-id").is_not_null())
    assert tasks.height > 500
    assert (tasks["ecs-task-arn"].str.split("/").list.last() == tasks["ecs-task-id"]).all()
    assert set(tasks["ecs-cluster-name"]) == {"shop"}


def test_the_path_is_told_on_the_way_out_only(frame: pl.DataFrame) -> None:
    egress = pl.col("flow-direction") == "egress"
    assert frame.filter(~egress)["traffic-path"].null_count() == frame.filter(~egress).height
    assert set(frame.filter(egress)["traffic-path"]) == {1, 7, 8} | ({4} if 4 in frame["traffic-path"] else set())
    assert frame.filter(~egress)["next-hop-interface-id"].null_count() == frame.filter(~egress).height
    assert frame.filter(egress)["next-hop-interface-id"].null_count() < frame.filter(egress).height


def test_aws_services_are_named_by_the_packets_address(frame: pl.DataFrame) -> None:
    named = frame.filter(pl.col("pkt-dst-aws-service").is_not_null())
    assert set(named["pkt-dst-aws-service"]) == {"S3", "EC2", "DYNAMODB", "CLOUDFRONT", "AMAZON"}
    assert named.group_by("pkt-dstaddr").agg(pl.col("pkt-dst-aws-service").n_unique())["pkt-dst-aws-service"].max() == 1


def test_ids_are_shaped_as_aws_shapes_them_and_belong_together(frame: pl.DataFrame) -> None:
    for column, prefix in (
        ("interface-id", "eni-"),
        ("vpc-id", "vpc-"),
        ("subnet-id", "subnet-"),
        ("instance-id", "i-"),
    ):
        names = frame[column].drop_nulls().unique()
        assert all(name.startswith(prefix) and ID.fullmatch(name.removeprefix(prefix)) for name in names)
    places = frame.filter(pl.col("interface-id").is_not_null()).select("interface-id", "vpc-id", "subnet-id", "region")
    assert places.unique().height == places["interface-id"].n_unique()
    assert places.select("vpc-id", "region").unique().height == places["vpc-id"].n_unique()
    assert frame["account-id"].n_unique() == 4
    assert frame["region"].n_unique() == 2
