"""Keys of log files: what they tell, and which of them a range of time needs to list."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.object_key import KeyParts, SlotRange, parse_key
from beam_flowlogs.s3_object import list_objects
from beam_flowlogs.times import TimeRange

NAME = "123456789012_vpcflowlogs_eu-west-1_fl-0a1b2c3d4e5f67890_20240131T2355Z_2f1c7a8b.log.gz"
PARTS = KeyParts(
    "123456789012", "eu-west-1", "fl-0a1b2c3d4e5f67890", datetime(2024, 1, 31, 23, 55, tzinfo=timezone.utc)
)


@pytest.mark.parametrize(
    "folder",
    [
        "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/",
        "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/23/",
        "team a/AWSLogs/x/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/",
        "p/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2024/month=01/day=31/hour=23/",
        "moved/",
        "",
    ],
)
@pytest.mark.parametrize("name", [NAME, NAME.replace(".log.gz", ".log.parquet")])
def test_a_log_files_name_tells_all_whatever_its_folder(folder: str, name: str) -> None:
    assert parse_key(folder + name) == PARTS


@pytest.mark.parametrize(
    "folder",
    [
        "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/01/31/",
        "p/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2024/month=01/",
    ],
)
def test_folders_tell_account_and_region_of_a_renamed_file(folder: str) -> None:
    assert parse_key(f"{folder}x.gz") == KeyParts("123456789012", "eu-west-1", "", None)


@pytest.mark.parametrize(
    "key", ["", "x", "AWSLogs/", NAME + ".tmp", NAME.replace("vpcflowlogs", "cloudtrail"), f"{NAME}\n"]
)
def test_other_keys_tell_nothing(key: str) -> None:
    assert parse_key(key) == KeyParts("", "", "", None)


@pytest.mark.parametrize("day", ["20240231", "99991231"])
def test_a_date_that_is_in_no_calendar_or_ends_in_none_is_no_slot(day: str) -> None:
    name = NAME.replace("20240131", day)

    assert parse_key(name) == PARTS._replace(slot=None)
    assert SlotRange(TimeRange(since=PARTS.slot)).holds(name) is None


_prefixes = st.text(st.characters(codec="utf-8"), max_size=30).map(lambda text: f"{text}/" if text else "")
_accounts = st.from_regex(r"[0-9]{12}", fullmatch=True)
_regions = st.sampled_from(["eu-west-1", "us-gov-east-1", "ap-southeast-7", "cn-north-1", "us-iso-east-1"])
_slots = st.datetimes(datetime(2015, 1, 1), datetime(2099, 12, 31)).map(
    lambda time: time.replace(second=0, microsecond=0, tzinfo=timezone.utc)
)


@given(_prefixes, _accounts, _regions, st.from_regex(r"fl-[0-9a-f]{8,17}", fullmatch=True), _slots, st.data())
def test_every_key_that_aws_makes_tells_all(
    prefix: str, account: str, region: str, flow_log: str, slot: datetime, data: st.DataObject
) -> None:
    hive, hourly = data.draw(st.booleans()), data.draw(st.booleans())
    hashed = data.draw(st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
    ending = data.draw(st.sampled_from(["log.gz", "log.parquet"]))
    if hive:
        folder = f"aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/{slot:year=%Y/month=%m/day=%d/}"
        folder += f"{slot:hour=%H/}" if hourly else ""
    else:
        folder = f"{account}/vpcflowlogs/{region}/{slot:%Y/%m/%d/}" + (f"{slot:%H/}" if hourly else "")
    name = f"{account}_vpcflowlogs_{region}_{flow_log}_{slot:%Y%m%dT%H%MZ}_{hashed}.{ending}"

    assert parse_key(f"{prefix}AWSLogs/{folder}{name}") == KeyParts(account, region, flow_log, slot)
    assert parse_key(f"{prefix}AWSLogs/{folder}renamed") == KeyParts(account, region)


@given(st.text())
def test_no_key_breaks_parse_key(key: str) -> None:
    assert isinstance(parse_key(key), KeyParts)


REGION = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/"
HIVE = "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/"
TEN = datetime(2024, 1, 31, 10, tzinfo=timezone.utc)
HALF_PAST = TEN + timedelta(minutes=30)


def _name(slot: datetime) -> str:
    return f"123456789012_vpcflowlogs_eu-west-1_fl-0a1b_{slot:%Y%m%dT%H%MZ}_2f1c7a8b.log.gz"


def _range(since: datetime | None = None, until: datetime | None = None) -> SlotRange:
    return SlotRange(TimeRange(since, until))


@pytest.mark.parametrize(
    ("minute", "held"), [(-5, False), (0, True), (5, True), (25, True), (30, False), (35, False)]
)  # fmt: skip
@pytest.mark.parametrize("folder", ["", f"{REGION}2024/01/31/", f"{REGION}copies/", "elsewhere/2019/01/01/"])
def test_a_file_is_of_the_range_that_its_slot_lies_in(folder: str, minute: int, held: bool) -> None:
    assert _range(TEN, HALF_PAST).holds(folder + _name(TEN + timedelta(minutes=minute))) is held


@pytest.mark.parametrize(
    "folder", [f"{REGION}2024/02/01/", f"{REGION}2024/01/30/23/", f"{HIVE}year=2024/month=02/day=01/", REGION]
)
def test_a_file_in_the_folder_of_another_day_is_not_of_the_range_whatever_its_name(folder: str) -> None:
    assert _range(TEN, HALF_PAST).holds(folder + _name(TEN)) is False


@pytest.mark.parametrize("folder", [f"{REGION}2024/01/31/", f"{HIVE}year=2024/month=01/day=31/"])
def test_a_range_may_begin_before_the_year_1000(folder: str) -> None:
    times = _range(since=datetime(900, 1, 1, tzinfo=timezone.utc))

    assert times.next_key(folder) == ""
    assert times.holds(folder + _name(TEN))


def test_a_slot_that_the_range_begins_or_ends_in_is_of_it() -> None:
    times = _range(TEN + timedelta(minutes=2), TEN + timedelta(minutes=11))

    slots = [TEN + timedelta(minutes=minute) for minute in range(-5, 20, 5)]
    assert [times.holds(_name(slot)) for slot in slots] == [False, True, True, True, False]


@pytest.mark.parametrize("folder", [REGION, f"team/{HIVE}"])
@pytest.mark.parametrize(
    ("day", "hour", "held"),
    [("2024/01/31/", "", True), ("2024/01/30/", "", False), ("2024/02/01/", "", False),
     ("2024/01/31/", "10/", True), ("2024/01/31/", "09/", False), ("2024/01/31/", "11/", False)],
)  # fmt: skip
def test_a_renamed_file_is_of_the_day_or_hour_of_its_folder(folder: str, day: str, hour: str, held: bool) -> None:
    if "=" in folder:
        year, month, number, _ = day.split("/")
        day, hour = f"year={year}/month={month}/day={number}/", hour and f"hour={hour}"

    assert _range(TEN, HALF_PAST).holds(f"{folder}{day}{hour}part-0.parquet") is held


@pytest.mark.parametrize(
    "key",
    ["x.log", f"{REGION}x.log", f"{REGION}2024/13/31/x", f"{REGION}2024/01/x", "2024/01/31/x", f"{HIVE}2024/01/31/x"],
)
def test_of_a_key_that_tells_no_time_nothing_is_said_unless_all_is_wanted(key: str) -> None:
    assert _range(since=TEN).holds(key) is None
    assert _range().holds(key) is True


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (REGION, f"{REGION}2024/01/31/"),
        (f"{REGION}2019/12/31/x", f"{REGION}2024/01/31/"),
        (f"{REGION}2024/01/30/23/x", f"{REGION}2024/01/31/"),
        (f"{REGION}2024", f"{REGION}2024/01/31/"),
        (f"{REGION}2024/01/31/00/x", ""),
        (f"{REGION}2024/02/01/x", f"{REGION}:"),
        (f"{REGION}2025/01/01/00/x", f"{REGION}:"),
        (f"{REGION}other", ""),
        (HIVE, ""),
        (f"{HIVE}year=", f"{HIVE}year=2024/month=01/day=31/"),
        (f"p/{HIVE}year=2023/month=12/day=31/hour=00/x", f"p/{HIVE}year=2024/month=01/day=31/"),
        (f"{HIVE}year=2024/month=02/day=01/x", f"{HIVE}year=:"),
        (f"{HIVE}zone=1/x", ""),
        ("AWSLogs/123456789012/CloudTrail/eu-west-1/2019/12/31/x", ""),
        ("AWSLogs/", ""),
        ("", ""),
    ],
)
def test_a_listing_passes_over_the_days_before_and_after(key: str, expected: str) -> None:
    assert _range(TEN, HALF_PAST).next_key(key) == expected
    assert _range().next_key(key) == ""


def test_until_midnight_the_day_that_begins_then_is_none() -> None:
    midnight = datetime(2024, 2, 1, tzinfo=timezone.utc)

    assert _range(until=midnight).next_key(f"{REGION}2024/02/01/x") == f"{REGION}:"
    assert _range(until=midnight + timedelta(minutes=1)).next_key(f"{REGION}2024/02/01/x") == ""


_some_slots = st.integers(0, 40 * 24 * 12).map(
    lambda at: datetime(2023, 12, 20, tzinfo=timezone.utc) + timedelta(minutes=5 * at)
)


@st.composite
def _keys(draw: st.DrawFn) -> str:
    slot, day_of = draw(_some_slots), draw(_some_slots)
    slot = draw(st.sampled_from([day_of, day_of, slot]))  # AWS puts a file into the folder of its slot, others may not
    folder = draw(st.sampled_from([REGION, HIVE, f"a/{REGION}", f"z/{HIVE}", "AWSLogs/9/vpcflowlogs/us-east-1/"]))
    day = f"{day_of:year=%Y/month=%m/day=%d/}" if "=" in folder else f"{day_of:%Y/%m/%d/}"
    hour = f"{slot:hour=%H/}" if "=" in folder else f"{slot:%H/}"
    name = draw(st.sampled_from([_name(slot), "renamed.log"]))
    dated = folder + day + draw(st.sampled_from(["", hour])) + name
    return draw(st.sampled_from([dated, dated, dated, f"{folder}undated", folder + name, "b/foreign", f"moved/{name}"]))


class PagedS3:
    """Lists its keys a page at a time, as S3 does, and counts the pages."""

    def __init__(self, keys: list[str], size: int) -> None:
        self.keys = sorted(set(keys))
        self.size = size
        self.pages = 0

    def list_objects_v2(self, **request: str) -> dict[str, Any]:
        self.pages += 1
        after = request.get("ContinuationToken") or request.get("StartAfter", "")
        found = [key for key in self.keys if key.startswith(request["Prefix"]) and key > after]
        page = found[: self.size]
        return {
            "Contents": [{"Key": key, "ETag": '"e"', "Size": 1} for key in page],
            "IsTruncated": len(found) > len(page),
            "NextContinuationToken": page[-1] if page else "",
        }


@given(
    st.lists(_keys(), max_size=40),
    st.integers(1, 7),
    st.sampled_from(["", "AWSLogs/", REGION, f"{REGION}2024/", f"{REGION}2024/01/0", HIVE, f"{HIVE}year=2023/", "a/"]),
    st.none() | _some_slots,
    st.none() | _some_slots,
)
def test_whatever_is_of_the_range_is_listed_in_no_more_pages_than_everything(
    keys: list[str], size: int, prefix: str, since: datetime | None, until: datetime | None
) -> None:
    if since and until and since >= until:
        since = None
    slots = _range(since, until)
    narrow, wide = PagedS3(keys, size), PagedS3(keys, size)

    found = [ref.key for ref in list_objects(cast(Any, narrow), "logs", prefix, next_key=slots.next_key)]
    everything = [ref.key for ref in list_objects(cast(Any, wide), "logs", prefix)]

    assert found == [key for key in everything if key in set(found)]
    assert [key for key in found if slots.holds(key)] == [key for key in everything if slots.holds(key)]
    assert [key for key in found if slots.holds(key) is None] == [key for key in everything if slots.holds(key) is None]
    assert narrow.pages <= wide.pages


@pytest.mark.parametrize("region", [REGION, HIVE])
@pytest.mark.parametrize("prefix", ["", "AWSLogs/"])
def test_what_is_taken_does_not_hang_on_where_a_page_ends(region: str, prefix: str) -> None:
    days = [TEN + timedelta(days=at) for at in range(-3, 4)]
    folders = [
        f"{region}{day:year=%Y/month=%m/day=%d/}" if "=" in region else f"{region}{day:%Y/%m/%d/}" for day in days
    ]
    keys = [folder + _name(slot) for folder in folders for slot in days] + [region + _name(slot) for slot in days]
    slots = _range(TEN, HALF_PAST)

    taken = []
    for size in (1, 2, 5, 1000):
        refs = list_objects(cast(Any, PagedS3(keys, size)), "logs", prefix, next_key=slots.next_key)
        taken.append([ref.key for ref in refs if slots.holds(ref.key)])

    assert folders[3] + _name(TEN) in taken[0]
    assert all(found == taken[0] for found in taken)


def test_a_day_out_of_years_is_listed_alone() -> None:
    days = [datetime(2021, 1, 1, tzinfo=timezone.utc) + timedelta(days=at) for at in range(5 * 365)]
    regions = [REGION, REGION.replace("eu-west-1", "us-east-1"), f"p/{HIVE}"]
    keys = [
        f"{region}{day:year=%Y/month=%m/day=%d/}{_name(day)}"
        if "=" in region
        else f"{region}{day:%Y/%m/%d/}{_name(day)}"
        for region in regions
        for day in days
    ]
    s3 = PagedS3(keys, 100)
    slots = _range(days[1000], days[1001])

    found = [
        ref.key for ref in list_objects(cast(Any, s3), "logs", "", next_key=slots.next_key) if slots.holds(ref.key)
    ]

    assert found == [keys[at + 1000] for at in (0, 5 * 365, 10 * 365)]
    assert s3.pages <= 9
