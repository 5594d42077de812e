from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_flowlogs.local import java
from beam_flowlogs.local.java import Java, find_java


def _install(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch(mode=0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def machine(make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to install in, and a machine without any Java elsewhere."""
    folder = make_home()
    monkeypatch.setattr(java, "_HOMES", (f"{folder}/jvm/*",))
    monkeypatch.setenv("PATH", str(folder / "path"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_no_java_is_none(machine: Path) -> None:
    assert find_java(range(1, 100)) is None


def test_a_java_beside_an_older_default_is_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(machine / "seventeen", "17.0.15")))
    newer = _install(machine / "jvm" / "temurin", "25.0.3")
    assert find_java(range(21, 100)) == Java(newer, 25)


def test_java_home_comes_before_what_else_is_installed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(machine / "jvm" / "temurin", "25.0.3")
    chosen = _install(machine / "chosen", "21")
    monkeypatch.setenv("JAVA_HOME", str(chosen))
    assert find_java(range(21, 100)) == Java(chosen, 21)


def test_the_java_on_the_path_is_followed_through_its_links(machine: Path) -> None:
    home = _install(machine / "somewhere", "21.0.1")
    (machine / "path").mkdir()
    (machine / "path" / "java").symlink_to(home / "bin" / "java")
    assert find_java(range(21, 100)) == Java(home, 21)


def test_a_java_that_is_too_new_is_passed_over(machine: Path) -> None:
    _install(machine / "jvm" / "new", "25")
    fits = _install(machine / "jvm" / "fits", "17.0.2")
    assert find_java(range(17, 24)) == Java(fits, 17)


@pytest.mark.parametrize("release", ["", "JAVA_VERSION=unknown", 'JAVA_VERSION="1.8.0_402"'])
def test_what_does_not_state_a_modern_version_is_no_java(machine: Path, release: str) -> None:
    home = _install(machine / "jvm" / "odd", "25")
    (home / "release").write_text(release)
    assert find_java(range(17, 100)) is None
