"""Find the Java runtimes of this machine, wherever its package manager or its user has put them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import is_root, require_reachable

# Folders whose entries are Java homes, for Linux distributions, macOS, Homebrew and the usual version managers.
_HOMES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "~/.sdkman/candidates/java/*",
    "~/.asdf/installs/java/*",
    "~/.local/share/mise/installs/java/*",
    "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
)


class Java(NamedTuple):
    """A Java runtime: its home folder and its major version."""

    home: Path
    major: int


def find_java(majors: range) -> Java | None:
    """The first usable Java of one of these major versions: JAVA_HOME, then the PATH, then what else is installed."""
    seen = set()
    for home in _candidates():
        real = home.resolve()
        if real in seen:
            continue
        seen.add(real)
        major = _major(real)
        if major in majors and _reachable(real):
            return Java(real, major)
    return None


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    commands = [shutil.which("java") or ""]
    alternatives = shutil.which("update-alternatives")
    if alternatives:
        listing = subprocess.run([alternatives, "--list", "java"], capture_output=True, text=True, check=False)  # noqa: S603
        commands += listing.stdout.split()
    yield from (Path(command).resolve().parent.parent for command in commands if command)
    for pattern in _HOMES:
        anchor = Path(pattern).expanduser()
        yield from sorted(Path(anchor.anchor).glob(str(anchor.relative_to(anchor.anchor))), reverse=True)


def _major(home: Path) -> int:
    """The major version that a Java home states about itself; 0 when it is none."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return 0
    version = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(version[1]) if version and (home / "bin" / "java").exists() else 0


def _reachable(home: Path) -> bool:
    if is_root():
        try:
            require_reachable(home)
        except LocalStackError:
            return False
    return True
