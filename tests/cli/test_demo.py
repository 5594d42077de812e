"""`flowlogs demo`: it destroys nothing that is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli import app

MODULE = sys.modules["beam_flowlogs.cli.demo"]  # the function of that name hides it
RUN = CliRunner(env={"COLUMNS": "40"})


def test_a_folder_that_holds_anything_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("kept")
    result = RUN.invoke(app, ["demo", "--home", str(tmp_path)])

    assert result.exit_code == 2
    assert f"FLOWLOGS_HOME={tmp_path}" in result.stderr
    assert "local down" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "lock").read_text() == "kept"


def test_every_demo_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = [MODULE._new_folder(None) for _ in range(2)]

    assert len(set(folders)) == 2
    assert all(folder.parent == tmp_path for folder in folders)
