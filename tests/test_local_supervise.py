"""The program that keeps another one running."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_flowlogs.local.process import Process, kill_group, spawn


class Supervised:
    """A sleeping program that starts another, under a supervisor."""

    def __init__(self, folder: Path) -> None:
        self._pid_file = folder / "pid"
        program = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
        command = [sys.executable, "-m", "beam_flowlogs.local.supervise", str(self._pid_file)]
        command += [sys.executable, "-c", program]
        self.supervisor = spawn(command, log=folder / "log", env=os.environ, cwd=folder)

    def child(self, other_than: int = 0) -> Process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            said = self._pid_file.read_text() if self._pid_file.exists() else ""
            if said and int(said) != other_than:
                return Process.of(int(said))
            time.sleep(0.05)
        raise AssertionError("nothing was started")

    def group(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
            except FileNotFoundError:
                continue
            if int(group) == self.supervisor.pid and state != "Z":
                found.append(int(entry.parent.name))
        return found


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    found = Supervised(tmp_path)
    yield found
    kill_group(found.supervisor)


def test_what_is_killed_is_started_again(supervised: Supervised) -> None:
    first = supervised.child()
    assert first.alive()

    first.kill()

    assert supervised.child(other_than=first.pid).alive()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_end_of_the_supervisor_is_that_of_all_that_was_started(supervised: Supervised) -> None:
    supervised.child()
    deadline = time.monotonic() + 20
    while len(supervised.group()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(supervised.group()) == 3

    supervised.supervisor.stop(grace=30)

    assert supervised.group() == []
