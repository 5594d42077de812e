"""`flowlogs verify`: what it says, and how it ends."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.elastic.verify import Difference, Proof, Range
from beam_flowlogs.rollup import RollUpKey

MODULE = sys.modules["beam_flowlogs.cli.verify"]  # the function of that name hides it
RUN = CliRunner(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1", "COLUMNS": "40"})
EQUAL = Proof(60, 2, 7, 2, [])
NOTHING = Proof(60, 0, 0, 0, [])
HOURS = Proof(
    3600, 3, 7, 4,
    [
        Difference(RollUpKey(3600, 0, "interface", "eni-a"), {"bytes": (3, 4)}),
        Difference(RollUpKey(3600, 0, "interface", "eni-b"), {"bytes": (3, 0)}, rolled_up=False),
        Difference(RollUpKey(3600, 0, "interface", "eni-c"), {}, has_raw=False),
    ],
)  # fmt: skip


def verify(monkeypatch: pytest.MonkeyPatch, proofs: list[Proof], *arguments: str, found: bool = True) -> Any:
    by_length = {proof.window_s: proof for proof in proofs}
    monkeypatch.setattr(MODULE, "window_lengths", lambda client: sorted(by_length) if found else [])
    monkeypatch.setattr(MODULE, "run_verify", lambda client, window_s, query: by_length[window_s])
    return RUN.invoke(app, ["verify", *arguments])


def test_roll_ups_that_are_equal_end_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    result = verify(monkeypatch, [EQUAL])

    assert result.exit_code == 0
    assert result.stdout == "Windows of 60 s: 2 roll-ups equal the sums over 7 raw documents, exactly\n"


def test_each_length_of_windows_is_verified_and_one_difference_is_enough_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = verify(monkeypatch, [EQUAL, HOURS])

    assert result.exit_code == 1
    assert "Windows of 60 s: 2 roll-ups equal" in result.stdout
    assert result.stderr.splitlines() == [
        "3600s-0-interface-eni-a  bytes: recounted 3, rolled up 4",
        "3600s-0-interface-eni-b  there is no roll-up of its raw documents",
        "3600s-0-interface-eni-c  there are no raw documents of this roll-up",
        (
            "Windows of 3600 s: of 4 that there should be, 1 are equal, 1 differ, 1 are missing (raw documents without "
            "a roll-up), and 1 have no raw documents; recounted: 7 raw documents"
        ),
    ]


def test_as_json_each_length_has_its_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    result = verify(monkeypatch, [EQUAL, HOURS], "--json")

    assert result.exit_code == 1
    minutes, hours = json.loads(result.stdout)
    assert minutes["differences"] == []
    counts = {name: hours[name] for name in ("window", "rollups", "equal", "missing", "unfounded", "different")}
    assert counts == {"window": "3600s", "rollups": 3, "equal": 1, "missing": 1, "unfounded": 1, "different": 1}
    assert hours["differences"][0] == {
        "id": "3600s-0-interface-eni-a",
        "rolled_up": True,
        "has_raw": True,
        "bytes": [3, 4],
    }


@pytest.mark.parametrize("found", [True, False])
def test_nothing_to_verify_is_no_proof(monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    result = verify(monkeypatch, [NOTHING], found=found)

    assert result.exit_code == 5
    assert "Nothing to verify" in result.stderr
    assert result.stdout == ""


def test_only_the_lengths_asked_for_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(monkeypatch, [EQUAL, HOURS], "--rollup-window", "60s").exit_code == 0
    assert verify(monkeypatch, [EQUAL, HOURS], "--rollup-window", "1h").exit_code == 1


def test_a_length_that_is_none_is_a_wrong_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(monkeypatch, [EQUAL], "--rollup-window", "7s").exit_code == 2


@pytest.mark.parametrize(
    ("begin", "end", "window_s", "bounds"),
    [
        (None, None, 60, None),
        (0, 120_000, 60, {"gte": 0, "lt": 120_000}),
        (1, 119_999, 60, {"gte": 60_000, "lt": 60_000}),
        (1, None, 3600, {"gte": 3_600_000}),
        (None, 7_199_999, 3600, {"lt": 3_600_000}),
    ],
)
def test_only_whole_windows_of_a_range_are_compared(
    begin: int | None, end: int | None, window_s: int, bounds: dict[str, int] | None
) -> None:
    query = Range(begin, end).whole_windows(window_s)

    if bounds is None:
        assert query is None
    else:
        assert query == {"range": {"@timestamp": {**bounds, "format": "epoch_millis"}}}
