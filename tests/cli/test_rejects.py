"""`flowlogs rejects` and `flowlogs replay`: what a person sees of the dead letters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.reject import DeadLetters, Reject

RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "200"})
BAD = Reject("row", "not-a-number", "s3://b/k row 7: bytes is 'x'", "b", "k", "", "e", 7, b"\xff 1", 1_764_000_000_000)


@pytest.fixture
def location(tmp_path: Path) -> str:
    letters = DeadLetters(str(tmp_path))
    letters.write("row/a", [BAD, BAD._replace(row=8, first_seen=1_764_000_060_000, detail="another")])
    letters.write("object/a", [Reject("object", "object-missing", "s3://b/[k] is gone", "b", "[k]")])
    letters.settle(letters.write("row/b", [BAD._replace(reason="settled")]))
    return str(tmp_path)


def rejects(location: str, *arguments: str) -> str:
    result = RUN.invoke(app, ["rejects", "--dead-letter", location, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_rejects_are_grouped_by_stage_and_reason_with_an_example_the_largest_group_first(location: str) -> None:
    lines = [line for line in rejects(location).splitlines() if line.startswith(("row", "object"))]
    assert [line.split()[:3] for line in lines] == [["row", "not-a-number", "2"], ["object", "object-missing", "1"]]
    assert "2025-11-24T16:01:00" in lines[0]
    assert "s3://b/k row 7" in lines[0]
    assert "s3://b/[k] is gone" in lines[1]


def test_groups_are_had_as_json(location: str) -> None:
    assert json.loads(rejects(location, "--json"))[0] == {
        "stage": "row",
        "reason": "not-a-number",
        "count": 2,
        "first_seen": "2025-11-24T16:00:00Z",
        "last_seen": "2025-11-24T16:01:00Z",
        "buckets": ["b"],
        "example": "s3://b/k row 7: bytes is 'x'",
    }


def test_each_reject_is_listed_in_a_line(location: str) -> None:
    lines = rejects(location, "--list").splitlines()
    assert len(lines) == 3
    assert lines[1] == "2025-11-24T16:00:00Z row not-a-number: s3://b/k row 7: bytes is 'x'"


def test_each_reject_is_had_as_json_with_its_file_and_its_data_even_where_that_is_no_text(location: str) -> None:
    found = json.loads(rejects(location, "--list", "--json", "--stage", "row"))
    assert [reject["row"] for reject in found] == [7, 8]
    assert found[0]["data"] == "\\xff 1"
    assert found[0]["file"] == f"{location}/row/a.avro"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [(["--stage", "row"], 2), (["--reason", "object-missing"], 1), (["--stage", "row", "--reason", "x"], 0)],
)
def test_a_selection_is_of_stage_and_reason(location: str, arguments: list[str], count: int) -> None:
    assert len(json.loads(rejects(location, "--list", "--json", *arguments))) == count


def test_what_was_replayed_is_shown_where_it_lies(location: str) -> None:
    assert "settled" not in rejects(location)
    assert "settled" in rejects(f"{location}/replayed")


def test_no_dead_letters_are_no_error(tmp_path: Path) -> None:
    assert "Nothing of that kind is set aside" in rejects(str(tmp_path))
    assert json.loads(rejects(str(tmp_path), "--json")) == []


@pytest.mark.parametrize("command", [["rejects"], ["replay", "--bucket", "b"]])
def test_an_unknown_stage_is_one_line_that_names_those_there_are(command: list[str]) -> None:
    result = RUN.invoke(app, [*command, "--stage", "rows"])
    assert result.exit_code == 2
    assert "give one of notification, object, row, document, rollup" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.avro").write_bytes(b"broken")
    result = RUN.invoke(app, ["rejects", "--dead-letter", str(tmp_path)])
    assert result.exit_code == 1
    assert "x.avro" in result.stderr
    assert len(result.stderr.splitlines()) == 1
