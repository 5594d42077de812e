"""What a table of results says of itself: when, on which machine and at which commit it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")


def append(title: str, about: str, lines: Sequence[str]) -> None:
    """Append a section to results.md: its title with date and commit, a sentence with the machine, and the table."""
    command = ["git", "describe", "--always", "--dirty"]
    commit = (
        subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False).stdout.strip()
        or "no commit"
    )
    now = datetime.now(timezone.utc)
    with RESULTS.open("a") as results:
        results.write(
            "\n".join(["", f"## {title}, {now:%Y-%m-%d}, {commit}", "", f"{about}; {machine()}.", "", *lines, ""])
        )


def machine() -> str:
    """Return the processor, the number of its cores, the operating system, and the load, which shows in figures."""
    name = platform.processor() or platform.machine()
    try:
        about = Path("/proc/cpuinfo").read_text()
        name = about.partition("model name")[2].partition("\n")[0].lstrip("\t :") or name
    except OSError:
        pass
    load = f"load {os.getloadavg()[0]:.1f} at its end"
    return f"{os.cpu_count()} cores of {name}, {platform.system()} {platform.release()}, {load}"
