"""The table of fields: complete, unambiguous, and open to what AWS adds."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from beam_flowlogs.fields import (
    BY_COLUMN,
    DEFAULT_FORMAT,
    DERIVED,
    FIELDS,
    NAMESPACE,
    TRANSIT_GATEWAY_FORMAT,
    Kind,
    field_of,
    vpc_format,
)

# "Flow log records" of the VPC user guide, by the version that brought the fields.
VPC_FIELDS = {
    2: "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status",
    3: "vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr",
    4: "region az-id sublocation-type sublocation-id",
    5: "pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path",
    7: "ecs-cluster-arn ecs-cluster-name ecs-container-instance-arn ecs-container-instance-id ecs-container-id "
    "ecs-second-container-id ecs-service-name ecs-task-definition-arn ecs-task-arn ecs-task-id",
    8: "reject-reason",
    9: "resource-id",
    10: "encryption-status",
    11: "instance-tag instance-tag-2 interface-tag interface-tag-2 asg-tag asg-tag-2 interface-type "
    "next-hop-interface-id next-hop-subnet-id next-hop-az-id next-hop-vpc-id next-hop-interface-type",
}  # fmt: skip


def test_a_vpc_format_has_every_field_up_to_its_version() -> None:
    expected: list[str] = []
    for version in range(2, 12):
        expected += VPC_FIELDS.get(version, "").split()
        assert vpc_format(version) == tuple(expected)
    assert len(expected) == 54
    assert vpc_format(2) == DEFAULT_FORMAT


@pytest.mark.parametrize("version", [1, 12, 0])
def test_another_version_has_no_format(version: int) -> None:
    with pytest.raises(ValueError, match="use 2 to 11"):
        vpc_format(version)


def test_the_table_holds_the_fields_of_both_kinds_of_flow_log_and_no_other() -> None:
    assert {field.name for field in FIELDS} == {*vpc_format(11), *TRANSIT_GATEWAY_FORMAT}
    assert len(TRANSIT_GATEWAY_FORMAT) == 36
    assert len(BY_COLUMN) == len(FIELDS)


def test_no_two_fields_share_a_place_in_the_document() -> None:
    paths = Counter(
        chain((field.path for field in FIELDS), *(field.copies for field in FIELDS), (field.path for field in DERIVED))
    )

    assert [path for path, count in paths.items() if count > 1] == []
    within = [path for path in paths for other in paths if other.startswith(f"{path}.")]
    assert within == []


def test_a_number_is_copied_as_a_number_or_as_the_text_of_one() -> None:
    for field in FIELDS:
        allowed = {"long", "date", "keyword"} if field.kind.is_number else {"keyword", "ip"}
        assert set(field.copies.values()) <= allowed, field.name
        assert field.maximum is None or field.kind.is_number, field.name


def test_every_field_says_what_it_means() -> None:
    assert [field.name for field in FIELDS if not field.meaning] == []
    assert [field.path for field in DERIVED if not field.rule] == []


def test_a_field_is_found_by_its_text_and_its_parquet_name() -> None:
    for field in FIELDS:
        assert field_of(field.name) is field_of(field.column) is field


@pytest.mark.parametrize("name", ["moon-phase", "moon_phase", "x", "tag-3", "a1-b2"])
def test_a_field_that_aws_adds_is_a_keyword_under_its_own_name(name: str) -> None:
    field = field_of(name)

    assert (field.name, field.column) == (name.replace("_", "-"), name.replace("-", "_"))
    assert (field.path, field.kind, field.copies) == (f"{NAMESPACE}.{name.replace('-', '_')}", Kind.KEYWORD, {})


@pytest.mark.parametrize(
    "name",
    ["", "Moon", "moon phase", "moon.phase", "-moon", "moon-", "moon--phase", "10.0.0.1", "9", "m\u00f6nd", "a" * 65,
     "tcp-flags-array", "tcp_flags_array", "moon\n"],
)  # fmt: skip
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no flow log field name"):
        field_of(name)
