"""The whole local stack in one folder: Elasticsearch, an S3/SQS emulator whose bucket notifies a queue, and Flink."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rich.progress import Progress

from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.flink import Flink
from beam_flowlogs.local.folders import locked, make_folder, state_folder
from beam_flowlogs.local.server import Server

BUCKET = "flowlogs-demo"
QUEUE = "flowlogs-demo"

# Variables of a user's own AWS settings that would win over, or be mixed with, the ones of the emulator.
FOREIGN_AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


@dataclass(frozen=True)
class StackInfo:
    """Where a running stack is reached."""

    elasticsearch_url: str
    aws_endpoint_url: str
    queue_url: str
    bucket: str
    aws_environment: dict[str, str]
    flink_environment: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The environment variables that lead AWS clients and this project's commands to the stack."""
        return {
            **self.aws_environment,
            "ELASTICSEARCH_URL": self.elasticsearch_url,
            "FLOWLOGS_QUEUE_URL": self.queue_url,
            "FLOWLOGS_BUCKET": self.bucket,
            **self.flink_environment,
        }

    def shell(self) -> str:
        """The same as lines for `eval` in a POSIX shell; a profile of the user's is put aside, never used with it."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()]
        return "\n".join([f"unset {' '.join(FOREIGN_AWS_VARIABLES)}", *exports])


@dataclass(frozen=True)
class PartStatus:
    """One server of the stack: its state ("running", "not answering", "stopped" or "external"), address and pid."""

    state: str
    url: str
    pid: int | None

    @property
    def up(self) -> bool:
        """Whether it can be used."""
        return self.state in ("running", "external")


@dataclass(frozen=True)
class StackStatus:
    """The servers of the stack; `flink` holds those of Flink by their names, none where it was never asked for."""

    elasticsearch: PartStatus
    aws: PartStatus
    flink: dict[str, PartStatus] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Whether the whole stack can be used."""
        return self.elasticsearch.up and self.aws.up and self.flink_up

    @property
    def flink_up(self) -> bool:
        """Whether Flink can be used; a Flink that is stopped as a whole is not missed."""
        states = [part.state for part in self.flink.values()]
        return all(state == "stopped" for state in states) or all(state == "running" for state in states)


class Stack:
    """The local stack that keeps everything in the folder `home`.

    Args:
        home: default $FLOWLOGS_HOME, else the user's folder for state.
        elasticsearch_url: an Elasticsearch to use instead of starting one; default $ELASTICSEARCH_URL.
        heap: of the Elasticsearch started here.
        waiting: called once when another process is just starting or stopping the same stack.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        elasticsearch_url: str | None = None,
        heap: str = "1g",
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.home = (home or state_folder()).absolute()
        self._elasticsearch = ElasticsearchServer(self.home / "elasticsearch", heap=heap)
        self._aws = AwsEmulator(self.home / "aws")
        self._flink = Flink(self.home / "flink")
        self._waiting = waiting
        url = os.environ.get("ELASTICSEARCH_URL", "") if elasticsearch_url is None else elasticsearch_url
        # A shell that has taken over our own environment names our own server: that is not another one.
        ours = self._elasticsearch.port and url.rstrip("/") == self._elasticsearch.url
        self._external = "" if ours else url
        if "@" in urlsplit(self._external).netloc:
            raise LocalStackError("ELASTICSEARCH_URL holds a user or a password: leave them out of it")

    def up(self, fresh: bool = False, progress: Progress | None = None, *, flink: bool = False) -> StackInfo:
        """Start what does not run, Flink only with `flink`, and return when all of it answers.

        `fresh` deletes all data first.

        Raises:
            LocalStackError: a server cannot be fetched or started, or ELASTICSEARCH_URL leads nowhere. What this call
                has started is stopped again then.
        """
        self._aws.require()
        with self._locked(), ExitStack() as started:
            if fresh:
                self._elasticsearch.wipe()
                self._aws.wipe()
                self._flink.wipe()
            if self._external:
                _connect(self._external)
            else:
                self._start(self._elasticsearch, progress, started)
            self._start(self._aws, progress, started)
            self._aws.create_notified_bucket(BUCKET, QUEUE)
            if flink:
                self._flink.start(self.info().environment(), progress)
            started.pop_all()
            return self.info()

    def down(self) -> bool:
        """Stop what was started here, keeping its data; whether anything was running."""
        if not self.home.exists():
            return False
        with self._locked():
            running = any(server.process for server in (self._elasticsearch, self._aws))
            running |= self._flink.stop()  # first: its jobs use the others
            self._elasticsearch.stop()
            self._aws.stop()
            return running

    def status(self) -> StackStatus:
        """How each server is."""
        elasticsearch = _external_status(self._external) if self._external else _status(self._elasticsearch)
        flink = {server.name: _status(server) for server in self._flink.servers()} if self._flink.known else {}
        return StackStatus(elasticsearch, _status(self._aws), flink)

    def info(self) -> StackInfo:
        """Where the stack is reached; only good while it is up."""
        return StackInfo(
            elasticsearch_url=self._external or self._elasticsearch.url,
            aws_endpoint_url=self._aws.url,
            queue_url=self._aws.queue_url(QUEUE),
            bucket=BUCKET,
            aws_environment=self._aws.environment(),
            flink_environment=self._flink.environment() if self._flink.running else {},
        )

    def _start(self, server: Server, progress: Progress | None, started: ExitStack) -> None:
        if not server.running:
            started.callback(server.stop)
            server.start(progress)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self.home)
        with locked(self.home / "lock", self._waiting):
            yield


def _status(server: Server) -> PartStatus:
    process = server.process
    if process is None:
        return PartStatus("stopped", "", None)
    return PartStatus("running" if server.running else "not answering", server.url, process.pid)


def _external_status(url: str) -> PartStatus:
    try:
        _connect(url)
    except LocalStackError:
        return PartStatus("not answering", url, None)
    return PartStatus("external", url, None)


def _connect(url: str) -> None:
    """Raise a LocalStackError unless something listens at the URL."""
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise LocalStackError(
            f"ELASTICSEARCH_URL is {url} and nothing answers there ({error}): correct it, or unset it to have an "
            "Elasticsearch started here"
        ) from error
