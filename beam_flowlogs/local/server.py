"""What the servers of the local stack have in common: a folder, a port, a process, a start and an end."""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.progress import Progress

from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.process import Process, free_port

_Self = TypeVar("_Self", bound="Server")


class Server(ABC):
    """A server process on the loopback interface whose data, log, port and pid live in one folder.

    Another object, in this process or a later one, that is given the same folder finds the same server. The port is
    kept from start to start as long as it is free, so that an address handed out once stays good.
    """

    name: str
    start_seconds = 180.0

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = Path(folder).absolute()
        self._record = self.folder / "server.json"
        self._wanted_port = port
        self._log_begins: dict[Path, int] = {}

    @property
    def port(self) -> int:
        """The port of the last start, or of the next one where it is known; 0 before."""
        return int(self._remembered().get("port", self._wanted_port))

    @property
    def url(self) -> str:
        """Where the server answers; only good after the first start."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> Process | None:
        """The living server process, or None."""
        known = self._remembered()
        process = Process(int(known.get("pid", 0)), str(known.get("started", "")))
        return process if process.alive() else None

    @property
    def pid(self) -> int:
        """The pid of the living server process.

        Raises:
            LocalStackError: the server is not running.
        """
        process = self.process
        if process is None:
            raise LocalStackError(f"{self.name} in {self.folder} is not running: start it first")
        return process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives and answers."""
        return self.process is not None and self._answers()

    def start(self: _Self, progress: Progress | None = None) -> _Self:
        """Start the server unless it is running; return when it answers.

        Raises:
            LocalStackError: it cannot be started, or does not answer in time. Nothing is left running then.
        """
        if self.running:
            return self
        self.stop()  # alive but not answering
        self.folder.mkdir(parents=True, exist_ok=True)
        quiet = Progress(disable=True)
        self._remember(free_port(self._wanted_port or self.port), None)
        self._log_begins = {file: file.stat().st_size for file in self._log_files() if file.exists()}
        process = self._launch(progress or quiet)
        try:
            self._remember(self.port, process)
            self._wait_for(process)
        except BaseException:
            process.kill()
            raise
        return self

    def stop(self) -> None:
        """End the server in order and wait until it is gone; its data stays. Nothing happens when it is not running."""
        if self.process:
            self.process.stop()

    def kill(self) -> None:
        """End the server at once, as a crash would (SIGKILL), and wait until it is gone."""
        if self.process:
            self.process.kill()

    def wipe(self) -> None:
        """Stop the server and delete everything it keeps, but not the memory of its port."""
        self.stop()
        for entry in self.folder.glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self._record:
                entry.unlink()

    def __enter__(self: _Self) -> _Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self, progress: Progress) -> Process:
        """Start the process that serves on `self.port`."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server answers as it should."""

    @abstractmethod
    def _log_files(self) -> tuple[Path, ...]:
        """The files that say why a start failed, the one that says it best first."""

    def _wait_for(self, process: Process) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self._answers():
            if not process.alive():
                raise LocalStackError(f"{self.name} ended while it was starting:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"{self.name} does not answer at {self.url} after {self.start_seconds:.0f} s:\n{self._last_words()}"
                )
            time.sleep(0.1)

    def _last_words(self) -> str:
        """The end of what this start, and none before, has logged."""
        for file in self._log_files():
            said = _tail(file, self._log_begins.get(file, 0))
            if said:
                return "\n".join([*said, f"(the whole log: {file})"])
        return f"(it has logged nothing; its folder is {self.folder})"

    def _remembered(self) -> dict[str, int | str]:
        try:
            known: dict[str, int | str] = json.loads(self._record.read_text())
        except FileNotFoundError:
            return {}
        return known

    def _remember(self, port: int, process: Process | None) -> None:
        known = {"port": port, "pid": process.pid if process else 0, "started": process.started if process else ""}
        draft = self._record.with_suffix(".draft")
        draft.write_text(json.dumps(known))
        draft.replace(self._record)


def _tail(file: Path, begin: int) -> list[str]:
    """Return the last lines of what a file holds from byte `begin` on; of all of it when it was begun anew."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    return data[begin if begin <= len(data) else 0 :].decode(errors="replace").strip().splitlines()[-15:]
