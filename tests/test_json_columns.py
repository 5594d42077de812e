"""Objects joined column by column are what JSON's own writer would have made row by row."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs import kernel
from beam_flowlogs.coded import coded
from beam_flowlogs.json_columns import Value, constant, decimal, escaped, join, json_array, json_object, quoted

_numbers = st.none() | st.integers(0, 5) | st.integers(0, 2**63 - 1)
_words = st.none() | st.text(st.characters(codec="utf-8"), max_size=6)


def _objects(tree: Any, rows: int) -> list[Any]:
    # A column of blanks is joined too, because an object of constants alone is one text for any number of rows.
    joined = join((*json_object(tree).segments, pa.array([" "] * rows)), nulls="replace")
    return [json.loads(text) for text in joined.to_pylist()]


def _numbers_of(column: pa.Int64Array) -> Value:
    return Value(decimal(column))


def _made(tree: Any) -> Any:
    """Return a tree of columns: how they are put together depends on whether the kernel is there."""
    if isinstance(tree, dict):
        return {name: _made(member) for name, member in tree.items()}
    return tree() if callable(tree) else tree


@st.composite
def _trees(draw: st.DrawFn, rows: int, depth: int = 2) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw a tree of columns, and the object of each row, without what it lacks and what is empty then."""
    tree: dict[str, Any] = {}
    objects: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name in draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=4, unique=True)):
        members: list[Any]
        kind = draw(st.sampled_from(["words", "coded", "numbers", "constant", *(["tree"] if depth else [])]))
        if kind == "tree":
            tree[name], objects_within = draw(_trees(rows, depth - 1))
            members = [*objects_within]
        elif kind == "constant":
            word = draw(st.text(st.characters(codec="utf-8"), max_size=5))
            tree[name], members = constant(word), [word] * rows
        elif kind == "numbers":
            members = draw(st.lists(_numbers, min_size=rows, max_size=rows))
            tree[name] = partial(_numbers_of, pa.array(members, pa.int64()))
        else:
            members = draw(st.lists(_words, min_size=rows, max_size=rows))
            column = escaped(pa.array(members, pa.string()))
            tree[name] = partial(quoted, (coded(column) if kind == "coded" else None) or column)
        for found, member in zip(objects, members):
            if member is not None and member != {}:
                found[name] = member
    return tree, objects


@pytest.mark.parametrize("module", [kernel.compiled, None], ids=["compiled", "pure"])
@settings(max_examples=150, deadline=None)
@given(st.integers(2, 5).flatmap(lambda rows: st.tuples(st.just(rows), _trees(rows))))
def test_any_tree_of_columns_gives_the_objects_of_its_rows(
    module: Any, drawn: tuple[int, tuple[dict[str, Any], list[dict[str, Any]]]]
) -> None:
    rows, (tree, expected) = drawn
    tree = {"first": constant("always"), **{f"_{name}": member for name, member in tree.items()}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "compiled", module)
        found = _objects(_made(tree), rows)

    assert found == [{"first": "always", **{f"_{name}": value for name, value in row.items()}} for row in expected]


def test_an_object_of_which_a_row_has_nothing_is_left_out() -> None:
    column = quoted(pa.array(["x", None]))
    tree = {"always": constant("a"), "inner": {"deep": {"only": column}}, "empty": {}}

    assert _objects(tree, 2) == [{"always": "a", "inner": {"deep": {"only": "x"}}}, {"always": "a"}]


def test_an_array_has_what_a_row_has_of_its_elements() -> None:
    left, right = (quoted(pa.array(values)) for values in (["a", None, "c", None], ["x", "y", None, None]))

    assert _objects({"of": json_array([left, right]), "always": constant("a")}, 4) == [
        {"of": ["a", "x"], "always": "a"},
        {"of": ["y"], "always": "a"},
        {"of": ["c"], "always": "a"},
        {"always": "a"},
    ]


@pytest.mark.parametrize("module", [kernel.compiled, None], ids=["compiled", "pure"])
def test_an_array_that_every_row_has_is_no_optional_one(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "compiled", module)
    found = json_array([quoted(pa.array(["a", None])), quoted(pa.array(["x", "y"]))])

    assert not found.optional
    assert _objects({"of": found}, 2) == [{"of": ["a", "x"]}, {"of": ["y"]}]


@given(st.lists(_words, max_size=6), st.integers(0, 3))
def test_escaped_text_may_stand_between_quotes(words: list[str | None], skipped: int) -> None:
    column = pa.array(words, pa.string())[min(skipped, len(words)) :]

    found = escaped(column).to_pylist()

    assert [word if word is None else json.loads(f'"{word}"') for word in found] == column.to_pylist()


def test_text_that_needs_no_escaping_is_not_copied() -> None:
    column = pa.array(["plain", None, "\u00e9"])

    assert escaped(column) is column


@pytest.mark.parametrize("nulls", ["emit_null", "replace"])
def test_joining_makes_a_row_null_or_leaves_its_gaps_out(nulls: str) -> None:
    joined = join((b"<", pa.array(["a", None]), b">"), nulls=nulls)

    assert joined.to_pylist() == ["<a>", None if nulls == "emit_null" else "<>"]
