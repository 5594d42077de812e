"""Program that keeps another program running: `python -m beam_flowlogs.local.supervise PID_FILE COMMAND...`.

It starts the command again whenever it ends, notes the pid of the present one in PID_FILE, and takes everything that
was started with it at a SIGTERM. It has to be the leader of its process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

_GRACE_S = 20.0
_SHORT_LIFE_S = 10.0
_LONGEST_PAUSE_S = 30.0


def supervise(command: list[str], pid_file: Path) -> None:
    """Run `command` again and again; only a SIGTERM ends this, and with it the whole process group."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    pause = 1.0
    child: subprocess.Popen[bytes] | None = None
    try:
        while True:
            began = time.monotonic()
            child = subprocess.Popen(command)  # noqa: S603 - the command is ours
            pid_file.write_text(str(child.pid))
            code = child.wait()
            lived = time.monotonic() - began
            pause = min(2 * pause, _LONGEST_PAUSE_S) if lived < _SHORT_LIFE_S else 1.0
            print(f"supervise: ended with {code} after {lived:.0f} s, again in {pause:.0f} s", file=sys.stderr)  # noqa: T201
            time.sleep(pause)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if child and child.poll() is None:
            child.terminate()
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
        os.killpg(0, signal.SIGKILL)  # what the child has started and not taken along


if __name__ == "__main__":
    supervise(sys.argv[2:], Path(sys.argv[1]))
