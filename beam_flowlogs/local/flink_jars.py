"""Fetch a real Flink and Beam's job server for it once into the user's cache, with pip and Maven.

Flink's jars are inside the source distribution of `apache-flink-libraries`. Beam publishes its Flink job server as
modules; Maven joins them to the one jar that is started, and that Flink gets with each job.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import locked, make_folder
from beam_flowlogs.local.java import Java, find_java

FLINK = "1.19.3"
_FLINK_SIZE = 230_366_372
_FLINK_SHA256 = "4a58e3a1fb7d83340bc96b6c080624c6d792d69fae5d294b96224775204a9c60"
_FLINK_LINE = "1.19"
_BEAM = "2.70.0"  # the newest whose runner for this Flink is on Maven Central together with all it needs
_JOB_SERVICE = "2.65.0"
_JAVA = range(17, 18)  # the newest that Flink 1.19 is made for
_UNUSED = ("table-planner", "table-runtime", "table-api", "cep")
_MAIN_CLASS = "org.apache.beam.runners.flink.FlinkJobServerDriver"


class FlinkJars(NamedTuple):
    """A folder of Flink's jars, Beam's job server as one jar, and the Java to run both."""

    flink: Path
    job_server: Path
    java: Java


def install(cache: Path, progress: Progress) -> FlinkJars:
    """What Flink needs, in the folder `cache`; fetched first when it is not there yet (400 MB, once).

    Raises:
        LocalStackError: Java 17 or Maven is missing, or pip or Maven fails, or Flink is not the one pinned here.
    """
    java = find_java(_JAVA)
    if java is None:
        raise LocalStackError(
            "Flink needs Java 17 and none was found: install it (Debian, Ubuntu: "
            "`apt install openjdk-17-jre-headless`; macOS: `brew install openjdk@17`), or point JAVA_HOME at one"
        )
    flink, job_server = cache / f"flink-{FLINK}", cache / f"flink-job-server-{_BEAM}.jar"
    if not (flink.exists() and job_server.exists()):
        make_folder(cache)
        with locked(cache / "lock"), tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as scratch:
            if not flink.exists():  # another process may just have done it
                _fetch_flink(flink, Path(scratch), progress)
            if not job_server.exists():
                _build_job_server(job_server, Path(scratch), java, progress)
    return FlinkJars(flink, job_server, java)


def _fetch_flink(target: Path, scratch: Path, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--dest", str(scratch), f"apache-flink-libraries=={FLINK}"]
    # pip downloads into its own temporary folder first: in ours, its size is the progress.
    partly = scratch / "pip"
    partly.mkdir()
    _run(command, f"Fetching Flink {FLINK}", progress, {"TMPDIR": str(partly)}, (partly, _FLINK_SIZE))
    archive = scratch / f"apache-flink-libraries-{FLINK}.tar.gz"
    with archive.open("rb") as content:
        digest = hashlib.sha256()
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != _FLINK_SHA256:
        raise LocalStackError(
            f"{archive.name} has the SHA-256 {digest.hexdigest()}, not {_FLINK_SHA256}: it is not what it claims to "
            "be. Check which package index pip uses, and try again"
        )
    draft = scratch / "flink"
    draft.mkdir()
    with tarfile.open(archive) as content:
        for entry in content:
            path = Path(entry.name)
            used = path.parent.as_posix().endswith("/deps/lib") and not any(word in path.name for word in _UNUSED)
            source = content.extractfile(entry) if used else None
            if source:
                with (draft / path.name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    draft.rename(target)


def _build_job_server(target: Path, scratch: Path, java: Java, progress: Progress) -> None:
    maven = shutil.which("mvn")
    if not maven:
        raise LocalStackError(
            "Beam's job server is put together with Maven and `mvn` is not on the PATH: install it "
            "(`apt install maven`, `brew install maven`)"
        )
    project = scratch / "job-server"
    project.mkdir()
    (project / "pom.xml").write_text(_pom())
    command = [maven, "-B", "-ntp", "-q", "-f", str(project / "pom.xml"), "package"]
    _run(command, f"Building Beam's job server {_BEAM}", progress, {"JAVA_HOME": str(java.home)})
    (project / "target" / "job-server-1.jar").rename(target)


def _run(
    command: Sequence[str],
    what: str,
    progress: Progress,
    environment: dict[str, str],
    watched: tuple[Path, int] | None = None,
) -> None:
    """Run a command to its end; `watched` is a folder and the bytes that it will hold."""
    task = progress.add_task(what, total=watched[1] if watched else None)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(  # noqa: S603 - the command is ours
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        ) as child,
    ):
        try:
            while child.poll() is None:
                if watched:
                    progress.update(task, completed=min(_size(watched[0]), watched[1]))
                time.sleep(0.2)
        except BaseException:
            child.kill()
            raise
        if child.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-2000:]
            raise LocalStackError(
                f"{what}: {Path(command[0]).name} failed; check the network and its settings:\n{said}"
            )
    progress.remove_task(task)


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that go while we look, as Path.rglob does not
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total


def _pom() -> str:
    """A Maven project whose package is the job server."""

    def dependency(group: str, artifact: str, version: str) -> str:
        coordinates = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        return f"<dependency>{coordinates}</dependency>"

    beam = "org.apache.beam"
    runner = dependency(beam, f"beam-runners-flink-{_FLINK_LINE}", _BEAM)
    # This module was not published with the others of its version; the older one fits.
    job_service = dependency(beam, "beam-runners-java-job-service", _JOB_SERVICE)
    managed = "".join(
        dependency(beam, artifact, _BEAM) for artifact in ("beam-sdks-java-expansion-service", "beam-sdks-java-harness")
    )
    logging = dependency("org.slf4j", "slf4j-simple", "2.0.16")
    left_out = ("META-INF/*.SF", "META-INF/*.DSA", "META-INF/*.RSA", "META-INF/versions/*/module-info.class")
    excludes = "".join(f"<exclude>{name}</exclude>" for name in (*left_out, "module-info.class"))
    shade = "org.apache.maven.plugins.shade.resource"
    return f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>beam-flowlogs.local</groupId>
  <artifactId>job-server</artifactId>
  <version>1</version>
  <dependencyManagement><dependencies>{job_service}{managed}</dependencies></dependencyManagement>
  <dependencies>{runner}{job_service}{logging}</dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId>
    <artifactId>maven-shade-plugin</artifactId>
    <version>3.6.0</version>
    <executions><execution><phase>package</phase><goals><goal>shade</goal></goals><configuration>
      <createDependencyReducedPom>false</createDependencyReducedPom>
      <filters><filter><artifact>*:*</artifact><excludes>{excludes}</excludes></filter></filters>
      <transformers>
        <transformer implementation="{shade}.ServicesResourceTransformer"/>
        <transformer implementation="{shade}.AppendingTransformer"><resource>reference.conf</resource></transformer>
        <transformer implementation="{shade}.ManifestResourceTransformer">
          <mainClass>{_MAIN_CLASS}</mainClass><manifestEntries><Multi-Release>true</Multi-Release></manifestEntries>
        </transformer>
      </transformers>
    </configuration></execution></executions>
  </plugin></plugins></build>
</project>
"""
