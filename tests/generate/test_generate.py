from __future__ import annotations

import dataclasses
import gzip
import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from beam_flowlogs.fields import DEFAULT_FORMAT, TRANSIT_GATEWAY_FORMAT, field_of, vpc_format
from beam_flowlogs.generate import (
    Compression,
    FileType,
    FolderSink,
    GeneratorConfig,
    KeyLayout,
    Truth,
    default_start,
    generate,
    parse_start,
)
from beam_flowlogs.object_key import parse_key
from tests.generate.read_back import read_all, read_object, rollups

START = 1_767_268_800  # 2026-01-01T12:00Z
CUSTOM = ("log-status", "bytes", "end", "flow-direction", "interface-id", "start", "packets")


def run(**arguments: Any) -> tuple[dict[str, bytes], Truth]:
    config = GeneratorConfig(**({"start": START, "records": 6000, "slots": 3, "interfaces": 72} | arguments))
    objects: dict[str, bytes] = {}
    return objects, generate(dataclasses.replace(config, incidents=config.fitting_incidents()), objects.__setitem__)


@pytest.mark.parametrize("file", FileType)
@pytest.mark.parametrize(
    "arguments",
    [*({"names": vpc_format(version)} for version in range(2, 12)), {"names": CUSTOM},
     {"names": TRANSIT_GATEWAY_FORMAT, "tgw": True}],
    ids=[*(f"version-{version}" for version in range(2, 12)), "custom", "tgw"],
)  # fmt: skip
def test_the_truth_is_what_reading_the_files_back_adds_up_to(arguments: dict[str, Any], file: FileType) -> None:
    objects, truth = run(file=file, **arguments)
    frame = read_all(objects)
    assert tuple(frame.columns) == arguments["names"]
    assert truth.rollups == rollups(frame)
    assert frame.height == truth.records == 6000
    assert dict(frame["log-status"].value_counts().iter_rows()) == truth.by_status
    assert {key: read_object(key, body).height for key, body in objects.items()} == {
        entry["key"]: entry["records"] for entry in truth.objects
    }
    assert {entry["key"]: entry["size"] for entry in truth.objects} == {k: len(body) for k, body in objects.items()}


@pytest.mark.parametrize(
    "arguments",
    [{"objects_per_slot": 3}, {"aggregation": 600}, {"accounts": 1, "regions": 1, "slots": 1}, {"interfaces": 6}],
    ids=str,
)
def test_the_truth_holds_for_every_size(arguments: dict[str, Any]) -> None:
    objects, truth = run(**arguments)
    frame = read_all(objects)
    assert frame.height == truth.records == 6000
    assert truth.rollups == rollups(frame)


def test_an_object_larger_than_what_is_held_at_a_time_is_one_file() -> None:
    objects, truth = run(records=300_000, accounts=1, regions=1, slots=1, names=DEFAULT_FORMAT)
    (body,) = objects.values()
    assert gzip.decompress(body).count(b"version") == 1
    assert truth.rollups == rollups(read_all(objects))


def test_without_end_the_start_gives_the_window() -> None:
    objects, truth = run(names=("interface-id", "start", "bytes", "packets", "log-status"))
    assert truth.rollups == rollups(read_all(objects), time="start")


def test_without_times_the_slot_gives_the_window() -> None:
    _, truth = run(names=("interface-id", "bytes", "log-status"))
    assert {entry["window_start"] for entry in truth.rollups} == {START, START + 300, START + 600}
    assert sum(entry["flows"] for entry in truth.rollups) == truth.by_status["OK"]


def test_without_an_interface_the_flow_log_is_the_key() -> None:
    _, truth = run(names=("bytes", "end", "log-status"))
    keys = {(entry["key_type"], entry["key"]) for entry in truth.rollups}
    assert keys == {("flow_log", entry["flow_log_id"]) for entry in truth.objects}
    assert sum(entry["flows"] for entry in truth.rollups) == truth.by_status["OK"]


def test_without_log_status_every_record_is_traffic() -> None:
    objects, truth = run(names=("interface-id", "bytes", "end"))
    assert truth.by_status == {"OK": 6000, "NODATA": 0, "SKIPDATA": 0}
    assert read_all(objects).null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize("records", [1, 2, 37, 999])
def test_few_records_are_exact_too(records: int) -> None:
    objects, truth = run(records=records)
    assert read_all(objects).height == truth.records == records


def test_the_same_arguments_give_the_same_bytes() -> None:
    (first, first_truth), (second, second_truth) = run(), run()
    assert first == second
    assert first_truth == second_truth


def test_another_seed_gives_other_interfaces_and_keys() -> None:
    (first, _), (second, _) = run(seed=1), run(seed=2)
    assert not set(first) & set(second)
    assert not set(read_all(first)["interface-id"]) & set(read_all(second)["interface-id"])


def test_parquet_is_as_deterministic_as_text() -> None:
    assert run(file=FileType.PARQUET)[0] == run(file=FileType.PARQUET)[0]


@pytest.mark.parametrize("compression", Compression)
def test_parquet_columns_have_the_types_of_the_fields(compression: Compression) -> None:
    objects, _ = run(file=FileType.PARQUET, compression=compression, names=vpc_format(11))
    file = pq.ParquetFile(io.BytesIO(next(iter(objects.values()))))
    expected = {field_of(name).column: field_of(name).kind.arrow for name in vpc_format(11)}
    assert {field.name: field.type for field in file.schema_arrow} == expected
    assert file.metadata.row_group(0).column(0).compression == compression.value.upper()


@pytest.mark.parametrize("file", FileType)
@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        (KeyLayout.PLAIN, "logs/a/AWSLogs/{account}/vpcflowlogs/{region}/2026/01/01/"),
        (KeyLayout.HOURLY, "logs/a/AWSLogs/{account}/vpcflowlogs/{region}/2026/01/01/12/"),
        (
            KeyLayout.HIVE,
            "logs/a/AWSLogs/aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/year=2026/month=01/day=01/",
        ),
        (
            KeyLayout.HIVE_HOURLY,
            "logs/a/AWSLogs/aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/year=2026/month=01/day=01/hour=12/",
        ),
    ],
)
def test_keys_follow_the_layout_and_tell_what_they_hold(layout: KeyLayout, folder: str, file: FileType) -> None:
    objects, truth = run(records=600, keys=layout, prefix="/logs/a/", file=file)
    assert list(objects) == [entry["key"] for entry in truth.objects]
    assert len(objects) == 3 * 2 * 3
    for entry in truth.objects:
        assert entry["key"].startswith(folder.format(account=entry["account_id"], region=entry["region"]))
        parts = parse_key(entry["key"])
        assert parts.slot == datetime.fromtimestamp(entry["slot_start"], timezone.utc)
        assert (parts.account_id, parts.region, parts.flow_log_id) == (
            entry["account_id"], entry["region"], entry["flow_log_id"],
        )  # fmt: skip


def test_a_slots_objects_hold_the_records_that_end_in_it() -> None:
    objects, truth = run(objects_per_slot=2, aggregation=600)
    for entry in truth.objects:
        frame = read_object(entry["key"], objects[entry["key"]]).with_columns(pl.col("start", "end").cast(pl.Int64))
        assert frame["end"].is_between(entry["slot_start"], entry["slot_start"] + 299).all()
        assert (frame["end"] - frame["start"]).is_between(0, 599).all()


def test_a_folder_holds_the_objects_under_their_keys(tmp_path: Path) -> None:
    config = GeneratorConfig(start=START, records=100)
    truth = generate(config, FolderSink(tmp_path))
    truth.write(tmp_path / "truth.json")
    for entry in truth.objects:
        assert (tmp_path / entry["key"]).stat().st_size == entry["size"]
    told = json.loads((tmp_path / "truth.json").read_text())
    assert told["rollups"] == {"60s": truth.rollups}
    assert told["arguments"]["names"] == " ".join(DEFAULT_FORMAT)
    assert not list(tmp_path.rglob("*.partial"))


def test_progress_is_told_every_record() -> None:
    told: list[int] = []
    generate(GeneratorConfig(start=START, records=500), lambda key, body: None, told.append)
    assert sum(told) == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"records": 0}, "records is 0: use 1 or more"),
        ({"interfaces": 5}, "interfaces is 5: use 6"),
        ({"regions": 11}, "regions is 11: the generator knows 10"),
        ({"aggregation": 300}, "60 or 600 seconds"),
        ({"start": START + 1}, "multiple of 300"),
        ({"seed": -1}, "seed is -1"),
        ({"names": ()}, "no fields"),
        ({"names": ("bytes", "bytes")}, "names bytes twice"),
        ({"names": ("bytes", "colour")}, "'colour' is no field of VPC flow logs"),
        ({"names": ("action",), "tgw": True}, "'action' is no field of transit gateway flow logs"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**({"start": START} | arguments))


def test_by_default_the_last_slot_is_the_last_full_one() -> None:
    assert default_start(2, now=START + 301.5) == START - 300


@pytest.mark.parametrize("text", ["2026-01-01T12:00Z", "2026-01-01T12:00:00Z", str(START)])
def test_a_start_is_a_utc_time_or_unix_seconds(text: str) -> None:
    assert parse_start(text) == START


def test_a_start_that_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="'yesterday' is no time: write UTC such as"):
        parse_start("yesterday")
