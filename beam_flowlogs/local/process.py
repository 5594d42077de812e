"""Child processes that outlive the command that started them, found again without ever mistaking another's pid."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"

# Python reaps a child only through its Popen, and an unreaped child looks alive to signals.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """A process by its pid and its time of start: a pid alone may by now belong to somebody else."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now."""
        return cls(pid, _start_time(pid))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        if self.pid in _children:
            _children[self.pid].poll()
        return bool(self.started) and _start_time(self.pid) == self.started

    def stop(self, grace: float = 60.0) -> None:
        """Ask the process to end, wait up to `grace` seconds, then kill it. Returns when it is gone."""
        self._signal(signal.SIGTERM)
        if not self._gone_within(grace):
            self.kill()

    def kill(self) -> None:
        """Kill the process at once (SIGKILL). Returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._gone_within(10.0)

    def _signal(self, number: int) -> None:
        if self.alive():
            with suppress(ProcessLookupError):  # gone meanwhile
                os.kill(self.pid, number)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def spawn(command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path, user: str = "") -> Process:
    """Start `command` in a session of its own, output appended to `log`; as `user` when one is named (root only)."""
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 - the command is ours
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,  # a Ctrl-C meant for the command must not reach the servers
            user=user or None,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    _children[child.pid] = child
    return Process.of(child.pid)


def exit_code(process: Process, timeout: float) -> int:
    """Wait for a process that `spawn` started here; its exit code. Raises subprocess.TimeoutExpired."""
    return _children[process.pid].wait(timeout)


def kill_group(process: Process) -> None:
    """Kill a process that `spawn` started here, with all its descendants that kept its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _children[process.pid].wait()


def free_port(wanted: int = 0) -> int:
    """`wanted` when nothing listens there, else any free port of the loopback interface."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on the loopback interface")


def _start_time(pid: int) -> str:
    """When the process was started, in a form that only compares; "" when there is none or only its remains."""
    return _start_time_in_proc(pid) if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)


def _start_time_in_proc(pid: int) -> str:
    try:
        # After the name, which is in brackets and may hold anything: field 3 is the state, 20 threads, 22 start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # A killed process of many threads looks dead while the last of them still hold its port and its files.
    return "" if fields[0] in "ZX" and int(fields[17]) <= 1 else fields[19]


def _start_time_by_ps(pid: int) -> str:
    """The same for macOS, to the second."""
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C"}, check=False).stdout  # noqa: S603
    state, _, started = said.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()
