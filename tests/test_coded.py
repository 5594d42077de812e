from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from beam_flowlogs.coded import Coded, coded, fold
from beam_flowlogs.json_columns import join


def column(values: list[str | None]) -> Coded:
    found = coded(pa.array(values, pa.string()))
    assert found is not None
    return found


def test_a_column_of_few_values_has_a_code_for_each_row_and_null_is_a_value() -> None:
    found = column(["a", None, "b", "a"])
    assert found.rows().to_pylist() == ["a", None, "b", "a"]
    assert found.map(lambda values: pa.array([f"<{v}>" for v in values.to_pylist()])).rows().to_pylist() == [
        "<a>",
        "<None>",
        "<b>",
        "<a>",
    ]


def test_a_column_of_many_values_is_left_as_it_is() -> None:
    assert coded(pa.array([str(n) for n in range(5000)])) is None
    assert coded(pa.array([str(n % 1000) for n in range(5000)])) is not None


def test_literals_and_coded_neighbours_become_one_coded_column_of_the_combinations_that_occur() -> None:
    left, right = column(["a", "b", "a", "c"]), column(["1", "2", "1", "1"])
    (folded,) = fold([b"<", left, b"-", right, b">", left], "emit_null")
    assert isinstance(folded, Coded)
    assert sorted(folded.values.to_pylist()) == ["<a-1>a", "<b-2>b", "<c-1>c"]
    assert folded.rows().to_pylist() == ["<a-1>a", "<b-2>b", "<a-1>a", "<c-1>c"]


def test_a_null_value_makes_the_joined_one_null_or_adds_nothing() -> None:
    segments = [b"<", column(["a", None]), b">"]
    assert join(segments).to_pylist() == ["<a>", None]
    assert join(segments, "replace").to_pylist() == ["<a>", "<>"]


@pytest.mark.parametrize("nulls", ["emit_null", "replace"])
def test_joining_coded_columns_gives_what_joining_their_rows_gives_however_many_combinations_there_are(
    nulls: str,
) -> None:
    random.seed(1)
    rows = 6000
    plain = [
        pa.array([random.choice([None, *(f"{at}-{n}" for n in range(count))]) for _ in range(rows)], pa.string())
        for at, count in enumerate((3, 60, 500, 1, 700, 2, 40))
    ]
    few = [coded(values) for values in plain]
    assert all(few)
    many = pa.array([str(random.random()) for _ in range(rows)])
    shared = few[1]
    assert shared is not None
    expected = join([b"{", *plain[:4], b",", many, *plain[4:], plain[1], b"}"], nulls)
    found = join([b"{", *few[:4], b",", many, *few[4:], shared, b"}"], nulls)
    assert found.equals(expected)


def test_a_batch_without_rows_stays_one() -> None:
    empty = Coded(np.zeros(0, np.int32), pa.array([], pa.string()))
    assert join([b"<", empty, b">"]).to_pylist() == []
