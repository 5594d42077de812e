from __future__ import annotations

from pathlib import Path

import pytest

from beam_flowlogs import secret

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:elastic-AbCdEf"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_values", {})


def test_a_variable_and_a_file_are_read_without_the_white_space_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\n")
    monkeypatch.setenv("SOME_KEY", " from a variable ")
    assert secret.resolve(f"file:{file}") == "from a file"
    assert secret.resolve("env:SOME_KEY") == "from a variable"


def test_a_rotated_secret_is_found_after_a_minute_and_not_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = tmp_path / "key"
    file.write_text("old")
    assert secret.resolve(f"file:{file}") == "old"
    file.write_text("new")
    now += 59
    assert secret.resolve(f"file:{file}") == "old"
    now += 2
    assert secret.resolve(f"file:{file}") == "new"


def test_a_secret_of_two_lines_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "c2Vj\ncmV0")
    with pytest.raises(secret.SecretUnavailable, match="env:SOME_KEY holds a line break") as told:
        secret.resolve("env:SOME_KEY")
    assert "c2Vj" not in str(told.value)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NOT_SET_ANYWHERE", "variable NOT_SET_ANYWHERE is not set on this worker"),
        ("file:/no/such/file", "/no/such/file cannot be read: FileNotFoundError"),
        ("file:/", "/ cannot be read: IsADirectoryError"),
    ],
)
def test_a_secret_that_is_not_there_is_named_with_the_reason(reference: str, message: str) -> None:
    with pytest.raises(secret.SecretUnavailable, match=message):
        secret.resolve(reference)


def test_an_empty_secret_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    with pytest.raises(secret.SecretUnavailable, match="is empty"):
        secret.resolve(f"file:{tmp_path / 'key'}")


@pytest.mark.parametrize(
    "reference",
    ["env:NAME", "file:/run/secrets/key", ARN, "arn:aws-cn:ssm:cn-north-1:1:parameter/elastic/key"],
)
def test_these_are_references(reference: str) -> None:
    assert secret.check(reference) == reference


@pytest.mark.parametrize(
    "text", ["hunter2", "", "env:", "file:", "arn:aws:s3:::bucket", "http://hunter2", "hunter2:hunter2"]
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="env:NAME") as caught:
        secret.check(text)
    assert "hunter2" not in str(caught.value)
