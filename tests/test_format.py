"""A format that a person wrote: what is taken, and what is refused before it can do harm."""

from __future__ import annotations

import pytest

from beam_flowlogs.fields import FIELDS, parse_format, unknown_names


def test_names_are_separated_by_spaces_or_written_as_aws_does() -> None:
    assert parse_format("srcaddr  dstaddr end") == ("srcaddr", "dstaddr", "end")
    assert parse_format("${srcaddr} ${log-status}") == ("srcaddr", "log-status")
    assert parse_format("") == ()


def test_every_known_name_is_taken() -> None:
    names = tuple(field.name for field in FIELDS)

    assert parse_format(" ".join(names)) == names
    assert unknown_names(names) == []


def test_a_name_that_is_like_no_other_is_a_field_to_come() -> None:
    assert parse_format("srcaddr colour") == ("srcaddr", "colour")
    assert unknown_names(["srcaddr", "colour"]) == ["colour"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scraddr", "did you mean srcaddr"),
        ("end interfaceid", "did you mean interface-id"),
        ("pkt-scraddr", "did you mean pkt-srcaddr or"),
        ("SRCADDR", "lower-case"),
        ("srcaddr,dstaddr", "separated by spaces"),
        ("end bytes end", "names end more than once"),
        ("${end", "separated by spaces"),
    ],
)
def test_a_slip_is_refused_and_the_nearest_name_is_given(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_format(text)
