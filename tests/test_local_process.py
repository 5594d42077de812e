from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_flowlogs.local import process as process_module
from beam_flowlogs.local.process import LOOPBACK, Process, free_port, kill_group, spawn

_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def _spawn(code: str, folder: Path) -> Process:
    return spawn([sys.executable, "-c", code], log=folder / "log", env={}, cwd=folder)


def _wait_for_output(folder: Path) -> str:
    deadline = time.monotonic() + 20
    while not (said := (folder / "log").read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said


@pytest.mark.parametrize("way", ["_start_time_in_proc", "_start_time_by_ps"])
def test_a_process_that_ended_is_not_alive_even_before_anybody_reaps_it(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "_start_time_in_proc" and not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    monkeypatch.setattr(process_module, "_start_time", getattr(process_module, way))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    process = Process.of(child.pid)
    assert process.alive()
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and left unreaped
    assert not process.alive()
    child.wait()
    assert not process.alive()


def test_a_pid_that_now_belongs_to_somebody_else_is_neither_alive_nor_killed(tmp_path: Path) -> None:
    bystander = _spawn("import time; time.sleep(60)", tmp_path)
    before = Process(bystander.pid, "another time")
    assert not before.alive()
    before.stop()
    before.kill()
    assert bystander.alive()
    bystander.kill()


def test_nothing_is_sent_to_a_pid_that_was_never_recorded() -> None:
    assert not Process(0, "").alive()
    Process(0, "").kill()  # pid 0 is our own process group: we would not get here


def test_a_process_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    process = _spawn(_STUBBORN, tmp_path)
    _wait_for_output(tmp_path)
    process.stop(grace=0.2)
    assert not process.alive()


def test_a_group_is_killed_with_its_descendants(tmp_path: Path) -> None:
    parent = spawn(
        ["/bin/sh", "-c", "sleep 60 & echo $!; wait"], log=tmp_path / "log", env=dict(os.environ), cwd=tmp_path
    )
    grandchild = Process.of(int(_wait_for_output(tmp_path)))
    assert grandchild.alive()
    kill_group(parent)
    deadline = time.monotonic() + 10
    while grandchild.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not grandchild.alive()
    assert not parent.alive()


def test_a_child_has_a_session_of_its_own_and_only_the_environment_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "precious")
    process = _spawn("import os; print(os.getsid(0) == os.getpid(), 'AWS_SECRET_ACCESS_KEY' in os.environ)", tmp_path)
    assert _wait_for_output(tmp_path) == "True False\n"
    process.stop()


def test_the_wanted_port_is_taken_when_it_is_free_and_another_one_when_it_is_not() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port
