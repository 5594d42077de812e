"""What is logged while a command runs, and how far a job in this process is."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.markup import escape

from beam_flowlogs.cli.wording import count_of


def log_to_stderr(*, verbose: bool) -> None:
    """Log warnings, and with ``verbose`` what is done, to stderr. Call it before Beam is imported, which logs too."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("beam_flowlogs").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # the sink says what fails, now and then
    # What Beam says of a failure is a traceback; the command says it in one line.
    logging.getLogger("apache_beam").setLevel(logging.WARNING if verbose else logging.CRITICAL)


def progress(*, verbose: bool) -> AbstractContextManager[None]:
    """Show the progress of a job that runs within the ``with``; with ``verbose`` its log lines do that."""
    return nullcontext() if verbose else _ProgressLine()


class _ProgressLine(logging.Handler):
    """Shows how far a job in this process is, from what it logs of each object; other warnings come as they are.

    What is set aside is only counted here: a line for each reject would bury everything, and a summary follows.
    """

    _EVERY_S = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("Receiving ...") if self._console.is_terminal else None
        self._objects = self._documents = self._set_aside = 0
        self._told = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        set_aside = getattr(record, "set_aside", None)
        if record.levelno >= logging.WARNING and set_aside is None:
            self._console.print(f"Warning: {escape(record.getMessage())}", soft_wrap=True)
        documents = getattr(record, "documents", None)
        if documents is None and set_aside is None:
            return
        self._objects += documents is not None
        self._documents += documents or 0
        self._set_aside += set_aside or 0
        line = f"{count_of(self._objects, 'object')}, {count_of(self._documents, 'document')}"
        if self._set_aside:
            line += f", {self._set_aside:,} set aside"
        if self._status:
            self._status.update(line)
        elif time.monotonic() - self._told > self._EVERY_S:
            self._told = time.monotonic()
            self._console.print(line)

    def __enter__(self) -> None:
        logger = logging.getLogger("beam_flowlogs")
        logger.addHandler(self)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        if self._status:
            self._status.start()

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("beam_flowlogs")
        logger.removeHandler(self)
        logger.propagate = True
        logger.setLevel(logging.WARNING)
        if self._status:
            self._status.stop()
