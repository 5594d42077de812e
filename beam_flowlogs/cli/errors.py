"""Errors in one line with the cure, and exit codes that scripts can use."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from elastic_transport import TransportError
from elasticsearch import AuthenticationException, AuthorizationException
from rich.console import Console
from rich.markup import escape

FAILED = 1
USAGE = 2
NOT_UP = 3  # what `systemctl status` and its like say of a service that does not run
SET_ASIDE = 4
"""A job has finished, and something of it is in the dead letters."""
NOTHING = 5
"""There was nothing to verify."""
INTERRUPTED = 130  # what a shell says of a program that a Ctrl-C has ended


@contextmanager
def wrong_arguments() -> Iterator[None]:
    """Turn a ValueError, which is how arguments are refused, into one line on stderr and exit code 2."""
    try:
        yield
    except ValueError as error:
        say_error(str(error))
        raise typer.Exit(USAGE) from error


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what fails, a ValueError of a worker too, into one line on stderr and exit code 1."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as error:
        raise _interrupted() from error
    except TransportError as error:
        say_error(
            f"Elasticsearch at {_address()} does not answer ({error}): check ELASTICSEARCH_URL, or start one on this "
            "machine with `flowlogs local up`"
        )
        raise typer.Exit(FAILED) from error
    except (AuthenticationException, AuthorizationException) as error:
        say_error(f"Elasticsearch at {_address()} refuses the credentials ({error}): check ELASTICSEARCH_API_KEY")
        raise typer.Exit(FAILED) from error
    except Exception as error:
        gist = _gist(error)
        if gist == KeyboardInterrupt.__name__:  # a worker in this process was interrupted, and Beam says so
            raise _interrupted() from error
        logging.getLogger("beam_flowlogs").debug("failed", exc_info=True)
        say_error(gist)
        raise typer.Exit(FAILED) from error


def _interrupted() -> typer.Exit:
    say_warning("interrupted: nothing is lost, what was under way is done again the next time")
    return typer.Exit(INTERRUPTED)


def say_error(message: str) -> None:
    """Print one line on stderr that begins with ``Error:``, however narrow the terminal is."""
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)


def say_warning(message: str) -> None:
    """Print one line on stderr that begins with ``Warning:``."""
    Console(stderr=True, highlight=False).print(f"[yellow]Warning:[/] {escape(message)}", soft_wrap=True)


def _address() -> str:
    return os.environ.get("ELASTICSEARCH_URL") or os.environ.get("ELASTICSEARCH_CLOUD_ID", "")


def _gist(error: Exception) -> str:
    """Return what an error says: Beam wraps a worker's error in its traceback, whose last line is the message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    gist = lines[-1].strip() if lines else type(error).__name__
    # Beam puts the step behind the first argument of an error, a traceback the module of its class before it.
    gist = re.sub(r" \[while running '[^']*'\]", "", gist)
    return re.sub(r"^(?:[A-Za-z_]\w*\.)+[A-Z]\w*: ", "", gist)


@contextmanager
def interrupted_when_terminated() -> Iterator[None]:
    """Have a SIGTERM or a closed terminal end a command as a Ctrl-C does: Python cleans up after that alone.

    A signal that is ignored (``nohup``) stays so.
    """
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
