"""How commands speak: numbers with their nouns, and commands that work as they are printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.filesize import decimal

from beam_flowlogs.local.folders import state_folder


def count_of(number: int, noun: str) -> str:
    """Return "1 object", "2 objects"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_of(number: int) -> str:
    """Return bytes as "120 bytes", "1.5 MB"."""
    return decimal(number)


def program() -> str:
    """Return what starts this very program in the user's shell: ``flowlogs`` only where that finds it."""
    script = Path(sys.executable).with_name("flowlogs")
    found = shutil.which("flowlogs")
    if found and Path(found).resolve() == script.resolve():
        return "flowlogs"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m beam_flowlogs.cli"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def command(*arguments: str, home: Path | None = None) -> str:
    """Return a command line of this program that a shell takes as it is, for the local stack in the folder ``home``."""
    line = " ".join([program(), *map(shlex.quote, arguments)])
    return f"FLOWLOGS_HOME={shlex.quote(str(home))} {line}" if home and home != state_folder() else line
