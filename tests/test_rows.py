"""Rows: their times, what is out of range, and parts of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_flowlogs.fields import BY_COLUMN
from beam_flowlogs.rows import Period, Rows, check_rows, logged_times, milliseconds, number_fault

END = 1_764_000_059
SLOT_MS = 1_764_000_300_000
ALL_DAYS = 36_500
"""So long a period that the age of flow logs alone bounds a time."""


def _batch(**columns: list[Any]) -> pa.RecordBatch:
    arrays = {name: pa.array(values, BY_COLUMN[name].kind.arrow) for name, values in columns.items()}
    return pa.RecordBatch.from_pydict(arrays)


def _check(slot_ms: int | None = SLOT_MS, first: int = 0, **columns: list[Any]) -> Rows:
    batch = _batch(**columns)
    numbers = np.arange(first, first + batch.num_rows)
    period = Period(slot_ms, None, ALL_DAYS)
    return check_rows(batch, numbers, period, lambda at: f"line {at}".encode())


def test_a_time_is_end_else_start_else_the_slot() -> None:
    rows = _check(end=[END, None, None], start=[END - 59, END - 59, None])

    assert rows.times.tolist() == [END * 1000, (END - 59) * 1000, SLOT_MS]
    assert rows.bad == ()


def test_without_any_time_a_row_is_bad() -> None:
    rows = _check(None, end=[END, None])

    assert rows.times.tolist() == [END * 1000]
    assert [(bad.number, bad.reason) for bad in rows.bad] == [(1, "time-missing")]
    assert [times.tolist() for times in logged_times(_batch(bytes=[1, 2]), None)] == [[-1, -1]] * 2


def test_a_row_begins_at_its_start_or_its_time() -> None:
    rows = _check(SLOT_MS, start=[END - 60, None, None], end=[END, END, None])

    assert rows.starts.tolist() == [(END - 60) * 1000, END * 1000, SLOT_MS]


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ([], []),
        ([None], [None]),
        ([5], [5000]),
        ([END, None, END * 1000 + 7], [END * 1000, None, END * 1000 + 7]),
        ([99_999_999_999, 100_000_000_000], [99_999_999_999_000, 100_000_000_000]),
    ],
)
def test_seconds_become_milliseconds_and_milliseconds_stay(logged: list[Any], expected: list[Any]) -> None:
    assert milliseconds(pa.array(logged, pa.int64())).to_pylist() == expected


@pytest.mark.parametrize("seconds", [1_420_070_400, 4_102_444_799])
def test_the_first_and_the_last_second_of_our_age_are_good(seconds: int) -> None:
    assert _check(end=[seconds], start=[seconds]).bad == ()


@pytest.mark.parametrize("seconds", [0, 1_420_070_399, 4_102_444_800, 1 << 62])
@pytest.mark.parametrize("name", ["end", "start"])
def test_a_second_outside_of_it_is_bad(name: str, seconds: int) -> None:
    columns: dict[str, Any] = {"end": [END], "start": [END], name: [seconds]}

    assert [found.reason for found in _check(**columns).bad] == ["time-out-of-range"]


def test_bad_rows_come_in_their_order_with_their_number_their_first_fault_and_their_bytes() -> None:
    rows = _check(
        first=100,
        end=[END] * 5,
        srcport=[1, 65536, 2, -1, 3],
        srcaddr=["10.0.0.1", "x", "10.0.0.256", "::1", None],
    )

    assert rows.numbers.tolist() == [100, 104]
    assert rows.batch.column("srcaddr").to_pylist() == ["10.0.0.1", None]
    assert rows.addresses["srcaddr"].valid.tolist() == [True, False]
    assert [(bad.number, bad.reason, bad.data) for bad in rows.bad] == [
        (101, "out-of-range", b"line 1"),
        (102, "not-an-address", b"line 2"),
        (103, "out-of-range", b"line 3"),
    ]


def test_rows_are_picked_with_all_that_belongs_to_them() -> None:
    rows = _check(end=[END] * 7, srcaddr=[f"10.0.0.{at}" for at in range(7)])

    part = rows.pick(np.array([False, True] * 3 + [True]))

    assert part.numbers.tolist() == [1, 3, 5, 6]
    assert part.batch.column("srcaddr").to_pylist() == [f"10.0.0.{at}" for at in part.numbers]
    assert part.addresses["srcaddr"].packed[:, 3].tolist() == part.numbers.tolist()
    assert len(part.times) == len(part.starts) == 4


def test_rows_that_are_all_bad_are_still_handed_on() -> None:
    rows = _check(end=[5])

    assert (rows.batch.num_rows, len(rows.bad)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("srcport", "0", None),
        ("srcport", "0" * 40 + "7", None),
        ("srcport", "2147483647", None),
        ("srcport", "2147483648", "out-of-range"),
        ("srcport", "-2147483648", "out-of-range"),
        ("bytes", "9223372036854775807", None),
        ("bytes", "9223372036854775808", "out-of-range"),
        ("bytes", "9" * 100_000, "out-of-range"),
        ("bytes", "", "not-a-number"),
        ("bytes", "-", "not-a-number"),
        ("bytes", "--1", "not-a-number"),
        ("bytes", "1\n", "not-a-number"),
        ("bytes", "\u0661", "not-a-number"),
        ("bytes", "1_000", "not-a-number"),
    ],
)
def test_the_text_of_a_number_is_decimal_and_fits_its_column(name: str, text: str, reason: str | None) -> None:
    fault = number_fault(BY_COLUMN[name], text)

    assert (fault and fault[0]) == reason
    assert not fault or len(fault[1]) < 80
