"""Commands work as they are printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from beam_flowlogs.cli.wording import command, count_of, program, size_of


def test_numbers_agree_with_their_nouns() -> None:
    assert [count_of(number, "object") for number in (0, 1, 1200)] == ["0 objects", "1 object", "1,200 objects"]
    assert [size_of(number) for number in (1, 12, 15_000)] == ["1 byte", "12 bytes", "15.0 kB"]


@pytest.mark.parametrize("path", ["", os.path.dirname(sys.executable)], ids=["not on PATH", "on PATH"])  # noqa: PTH120
def test_what_starts_this_program_starts_it_from_the_users_shell(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    assert (program() == "flowlogs") is bool(path)

    said = subprocess.run(["/bin/sh", "-c", command("--version")], capture_output=True, text=True, check=True).stdout
    assert said.strip()


def test_in_a_clone_the_program_is_named_as_it_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / ".venv/bin"
    scripts.mkdir(parents=True)
    (scripts / "flowlogs").touch()
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)

    assert program() == ".venv/bin/flowlogs"
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert program() == f"{scripts}/flowlogs"


def test_the_folder_of_another_stack_goes_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "a b"
    line = command("local", "down", home=home)
    assert shlex.split(line)[0] == f"FLOWLOGS_HOME={home}"

    monkeypatch.setenv("FLOWLOGS_HOME", str(home))
    assert command("local", "down", home=home) == f"{program()} local down"
