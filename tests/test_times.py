"""Times that a person gives: what they mean, and what is none."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from beam_flowlogs.times import TimeRange, parse_range, parse_time

NOW = datetime(2026, 11, 25, 22, 44, 59, 7000, timezone.utc)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01", "2026-01-01T00:00:00+00:00"),
        ("2026-01-31T12:05", "2026-01-31T12:05:00+00:00"),
        ("2026-01-31T12:05:06", "2026-01-31T12:05:06+00:00"),
        ("2026-01-31T12:05:06Z", "2026-01-31T12:05:06+00:00"),
        ("2026-01-31T12:05:06.789Z", "2026-01-31T12:05:06.789000+00:00"),
        ("2026-01-31T01:00:00+02:00", "2026-01-30T23:00:00+00:00"),
        ("now", "2026-11-25T22:44:59.007000+00:00"),
        ("2d", "2026-11-23T22:44:59.007000+00:00"),
        ("90m", "2026-11-25T21:14:59.007000+00:00"),
        ("now-2d", "2026-11-23T22:44:59.007000+00:00"),
        ("now-1h/m", "2026-11-25T21:44:00+00:00"),
        ("now/h", "2026-11-25T22:00:00+00:00"),
        ("now-1d/d", "2026-11-24T00:00:00+00:00"),
        ("now/w", "2026-11-23T00:00:00+00:00"),
        ("now-1w+12h-30s/s", "2026-11-19T10:44:29+00:00"),
    ],
)
def test_a_time_is_absolute_or_relative_to_now(text: str, expected: str) -> None:
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    ["yesterday", "", "now-1", "now-1y", "-2d", "2 d", "d", "1764000000", "20260131", "2026", "2026-02-30", "2026-W01",
     "2026-01-31T25:00", "2026-01-31 12:00", "now/2h", "999999w", "\u0662d"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time: write .* 2026-01-31T12:00:00Z, .* 2d, now-1h/m"):
        parse_time(text, NOW)


def test_a_range_has_the_bounds_that_are_given() -> None:
    assert parse_range("", "", NOW) == TimeRange()
    assert parse_range("1h", "", NOW) == TimeRange(since=NOW - timedelta(hours=1))
    assert parse_range("1h", "now", NOW) == TimeRange(NOW - timedelta(hours=1), NOW)
    assert [parse_range(*bounds, NOW).is_bounded for bounds in (("", ""), ("1h", ""), ("", "1h"))] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("until", ["2h", "1h", "2026-11-25"])
def test_a_range_that_nothing_lies_in_is_refused(until: str) -> None:
    with pytest.raises(ValueError, match="is not before --until"):
        parse_range("1h", until, NOW)


def test_a_range_is_touched_by_what_lies_partly_in_it() -> None:
    def hour(at: int) -> datetime:
        return datetime(2026, 1, 1, at, tzinfo=timezone.utc)

    times = TimeRange(hour(2), hour(4))

    touched = [times.touches(hour(at), hour(at + 1)) for at in range(6)]
    assert touched == [False, False, True, True, False, False]
    assert times.touches(hour(1), hour(5))
    assert TimeRange(until=hour(4)).touches(hour(0), hour(1))
    assert TimeRange(since=hour(4)).touches(hour(9), hour(10))
