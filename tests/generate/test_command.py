from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
import typer
from typer.testing import CliRunner

from beam_flowlogs.cli.generate import generate
from beam_flowlogs.local.aws import AwsEmulator
from tests.generate.read_back import read_all, rollups

APP = typer.Typer()
APP.command()(generate)
START = ("--start", "2026-01-01T12:00Z")


def invoke(*arguments: str, code: int = 0) -> str:
    # A width at which no message is broken.
    result = CliRunner(env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).invoke(APP, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_a_folder_gets_the_objects_and_the_truth(tmp_path: Path) -> None:
    output = invoke(str(tmp_path), "--records", "1500", *START)
    truth = json.loads((tmp_path / "truth.json").read_text())
    objects = {entry["key"]: (tmp_path / entry["key"]).read_bytes() for entry in truth["objects"]}
    frame = read_all(objects)
    assert frame.height == truth["records"] == 1500
    assert truth["rollups"]["60s"] == rollups(frame)
    assert len(truth["incidents"]) == 6
    assert "1,500 records" in output
    assert "port-scan" in output
    assert str(tmp_path / "truth.json") in output


def test_the_summary_is_had_as_json(tmp_path: Path) -> None:
    folder, truth = tmp_path / "logs", tmp_path / "elsewhere" / "told.json"
    summary = json.loads(invoke(str(folder), "--records", "90", "--json", "--truth", str(truth)))
    assert summary["records"] == 90
    assert summary["bytes"] == sum(path.stat().st_size for path in folder.rglob("*.gz"))
    assert summary["objects"] == len(list(folder.rglob("*.gz")))
    assert json.loads(truth.read_text())["records"] == 90
    assert not (folder / "truth.json").exists()


def test_every_option_reaches_the_files(tmp_path: Path) -> None:
    invoke(
        str(tmp_path), "--records", "80", "--accounts", "1", "--regions", "1", "--interfaces", "4", "--slots", "2",
        "--objects-per-slot", "2", "--seed", "5", "--format", "end bytes interface-id", "--aggregation", "600",
        "--incidents", "none", "--file", "parquet", "--parquet-compression", "snappy", "--keys", "hive-hourly",
        "--prefix", "some/where", *START,
    )  # fmt: skip
    arguments = json.loads((tmp_path / "truth.json").read_text())["arguments"]
    assert arguments == {
        "start": 1_767_268_800, "records": 80, "accounts": 1, "regions": 1, "interfaces": 4, "slots": 2,
        "objects_per_slot": 2, "aggregation": 600, "names": "end bytes interface-id", "tgw": False, "file": "parquet",
        "compression": "snappy", "keys": "hive-hourly", "prefix": "some/where", "incidents": [], "seed": 5,
    }  # fmt: skip
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert len(files) == 4
    assert all(name.startswith("some/where/AWSLogs/aws-account-id=") for name in files)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--version", "3"), 21),
        (("--tgw",), 36),
        ((), 14),
    ],
)
def test_the_format_is_chosen(arguments: tuple[str, ...], names: int, tmp_path: Path) -> None:
    invoke(str(tmp_path), "--records", "20", *arguments)
    told = json.loads((tmp_path / "truth.json").read_text())
    assert len(told["arguments"]["names"].split()) == names


def test_incidents_are_chosen_by_name(tmp_path: Path) -> None:
    invoke(str(tmp_path), "--records", "1000", "--incidents", "port-scan, skipdata")
    told = json.loads((tmp_path / "truth.json").read_text())
    assert [note["kind"] for note in told["incidents"]] == ["port-scan", "skipdata"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--incidents", "flood"), "incident 'flood' is unknown: use all, none, or some of port-scan"),
        (("--incidents", "skipdata", "--records", "10"), "incident skipdata needs 1000 records or more"),
        (("--version", "12"), "flow log version 12 is unknown: use 2 to 11"),
        (("--version", "3", "--tgw"), "leave out --format and --tgw, or --version"),
        (("--format", "colour"), "'colour' is no field of VPC flow logs"),
        (("--start", "now"), "start 'now' is no time"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert message in invoke(str(tmp_path), *arguments, code=2)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"cannot write to {tmp_path}/file" in invoke(f"{tmp_path}/file", "--records", "10", code=1)


def test_a_folder_that_holds_another_generation_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    invoke(str(tmp_path), "--records", "30", *START)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    output = invoke(str(tmp_path), "--records", "30", "--seed", "2", *START, code=2)
    assert "holds other flow logs" in output
    assert "Give a new folder" in output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "truth.json").unlink()
    assert "holds other flow logs" in invoke(str(tmp_path), "--records", "30", code=2)


def test_it_is_said_how_the_files_get_indexed(tmp_path: Path) -> None:
    output = invoke(str(tmp_path), "--records", "30", "--prefix", "a/b", *START)
    assert f"aws s3 cp --recursive {tmp_path}/a/b/AWSLogs s3://BUCKET/a/b/AWSLogs/" in output
    assert "flowlogs backfill s3://BUCKET/a/b/AWSLogs/" in output


@pytest.mark.integration
def test_a_bucket_gets_the_objects_below_the_prefix(aws: AwsEmulator, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="generated")
    truth_file = tmp_path / "truth.json"
    invoke("s3://generated/a/b", "--records", "2000", "--prefix", "c", "--truth", str(truth_file), *START)
    truth = json.loads(truth_file.read_text())
    listed = {entry["Key"]: entry["Size"] for entry in client.list_objects_v2(Bucket="generated")["Contents"]}
    assert listed == {entry["key"]: entry["size"] for entry in truth["objects"]}
    assert all(key.startswith("a/b/c/AWSLogs/") for key in listed)
    bodies = {key: client.get_object(Bucket="generated", Key=key)["Body"].read() for key in listed}
    assert truth["rollups"]["60s"] == rollups(read_all(bodies))


@pytest.mark.integration
def test_a_bucket_that_is_not_there_is_named(aws: AwsEmulator, tmp_path: Path) -> None:
    output = invoke("s3://no-such-bucket/x", "--records", "100", "--truth", str(tmp_path / "truth.json"), code=1)
    assert "s3://no-such-bucket/x/AWSLogs/" in output
    assert "check that the bucket exists" in output
    assert not (tmp_path / "truth.json").exists()
