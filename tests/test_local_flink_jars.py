"""What is fetched for the local Flink."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.local import flink_jars


def test_the_size_of_a_folder_is_told_while_parts_of_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "goes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"1234")
    scandir = os.scandir

    def look(path: Any) -> Any:
        if Path(path).name == "goes":
            (tmp_path / "goes" / "file").unlink(missing_ok=True)
            (tmp_path / "goes").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)

    assert flink_jars._size(tmp_path) == 4
