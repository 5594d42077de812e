"""Where the local stack keeps its downloads and its data, and who may reach them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beam_flowlogs.local.errors import LocalStackError

NAME = "beam-flowlogs"


def is_root() -> bool:
    """Whether this process is root: Elasticsearch then runs as another user, who has to reach its folders."""
    return os.geteuid() == 0


def cache_folder() -> Path:
    """The folder of what is fetched once: $XDG_CACHE_HOME/beam-flowlogs, else ~/.cache (root: /var/cache)."""
    return _user_folder("XDG_CACHE_HOME", Path(".cache"), Path("/var/cache"))


def state_folder() -> Path:
    """The stack's own folder: $FLOWLOGS_HOME, $XDG_STATE_HOME/beam-flowlogs, or ~/.local/state (root: /var/lib)."""
    home = os.environ.get("FLOWLOGS_HOME")
    return Path(home).absolute() if home else _user_folder("XDG_STATE_HOME", Path(".local/state"), Path("/var/lib"))


def _user_folder(variable: str, in_home: Path, of_root: Path) -> Path:
    base = os.environ.get(variable)
    if base:
        return Path(base).absolute() / NAME
    # Root's home is closed to everyone else, also to the user that Elasticsearch runs as.
    return (of_root if is_root() else Path.home() / in_home) / NAME


def make_folder(folder: Path) -> Path:
    """Create `folder` with its parents, readable by the user that Elasticsearch runs as.

    Raises:
        LocalStackError: this is root, and a parent of the folder is closed to other users.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_root():
        require_reachable(folder.parent)
        folder.chmod(0o755)
    return folder


def require_reachable(folder: Path) -> None:
    """Raise a LocalStackError when a user other than the owner cannot enter `folder`."""
    closed = [str(step) for step in (folder, *folder.parents) if not step.stat().st_mode & 0o001]
    if closed:
        raise LocalStackError(
            f"Elasticsearch refuses to run as root, and the user it runs as instead cannot enter {closed[-1]}. "
            "Run as an ordinary user, or choose a folder that others can enter, such as /var/lib/beam-flowlogs"
        )


@contextmanager
def locked(file: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on `file`; call `waiting` once when another process holds it."""
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
