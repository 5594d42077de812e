"""A real Flink on the loopback interface, with all that Beam's Python pipelines need to run on it.

Four servers, each kept running by a supervisor: a JobManager, a TaskManager, Beam's job server (it takes pipelines and
gives them to Flink), and a worker pool (it starts the Python processes that run the steps of a pipeline).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys
import urllib.request
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from beam_flowlogs.local.flink_jars import FlinkJars, install
from beam_flowlogs.local.folders import cache_folder
from beam_flowlogs.local.java import Java
from beam_flowlogs.local.process import LOOPBACK, Process, free_port, spawn
from beam_flowlogs.local.server import Server

_OPEN_PACKAGES = (
    "java.lang",
    "java.lang.reflect",
    "java.net",
    "java.io",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "sun.nio.ch",
)
# Flink and Beam look into classes that Java has closed since.
_OPEN = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPEN_PACKAGES]
_COMMON = [*_OPEN, "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"]

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class _Supervised(Server):
    """A server that a supervisor of its own starts again whenever it dies."""

    start_seconds = 90.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._pid_file = self.folder / "pid"

    @property
    def child(self) -> Process:
        """The server's present process, as the supervisor has started it."""
        return Process.of(int(self._pid_file.read_text()))

    def kill(self) -> None:
        """End the server and its supervisor at once, and wait until they are gone."""
        supervisor = self.process
        if supervisor:
            with suppress(ProcessLookupError):
                os.killpg(supervisor.pid, signal.SIGKILL)
            supervisor.kill()

    def _launch(self, progress: Progress) -> Process:  # noqa: ARG002 - what is fetched is here already
        (self.folder / "tmp").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "beam_flowlogs.local.supervise", str(self._pid_file), *self._command()]
        return spawn(command, log=self._log_files()[0], env=self._environment(), cwd=self.folder)

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that serves on `self.port`."""

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def _answers(self) -> bool:
        return _listens(self.port)

    def _log_files(self) -> tuple[Path, ...]:
        return (self.folder / "log",)


class _Java(_Supervised):
    def __init__(self, folder: Path, jars: FlinkJars) -> None:
        super().__init__(folder)
        self._jars = jars

    def _java(self, *options: str) -> list[str]:
        temporary = f"-Djava.io.tmpdir={self.folder / 'tmp'}"
        return [str(self._jars.java.home / "bin" / "java"), *_COMMON, temporary, *options]

    def _flink(self, main: str, config: Mapping[str, str], *options: str) -> list[str]:
        (self.folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in config.items()))
        log = self.folder / "log4j.properties"
        log.write_text(_LOG4J)
        classes = ["-cp", f"{self._jars.flink}/*", main, "--configDir", str(self.folder)]
        return self._java(*options, f"-Dlog4j.configurationFile={log.as_uri()}", *classes)


class JobManager(_Java):
    """Flink's JobManager; `url` is its REST interface and web page."""

    name = "Flink's JobManager"

    @property
    def rpc_port(self) -> int:
        """The port that TaskManagers call, the same from start to start."""
        file = self.folder / "rpc-port"
        return int(file.read_text()) if file.exists() else 0

    @property
    def storage(self) -> Path:
        """The folder of checkpoints and savepoints."""
        return self.folder / "state"

    def get(self, path: str) -> Any:
        """What the REST interface answers."""
        with _NO_PROXY.open(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def _command(self) -> list[str]:
        (self.folder / "rpc-port").write_text(str(free_port(self.rpc_port)))
        config = {
            **_addresses(self.rpc_port),
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": str(self.port),
            "web.tmpdir": str(self.folder / "tmp"),
            "web.upload.dir": str(self.folder / "tmp"),
            "blob.storage.directory": str(self.folder / "tmp"),
            "state.checkpoints.dir": (self.storage / "checkpoints").as_uri(),
            "state.savepoints.dir": (self.storage / "savepoints").as_uri(),
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            # For ever: what fails for good fails again, and shows; the outage of a dependency ends.
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1 s",
            "restart-strategy.exponential-delay.max-backoff": "30 s",
            "restart-strategy.exponential-delay.reset-backoff-threshold": "2 min",
        }
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        return self._flink(main, config, "-Xmx512m", "-XX:MaxMetaspaceSize=256m")

    def _answers(self) -> bool:
        try:
            return "taskmanagers" in self.get("/overview")
        except (OSError, ValueError):
            return False


class TaskManager(_Java):
    """Flink's TaskManager, which runs the Java side of a pipeline and talks to the Python side."""

    name = "Flink's TaskManager"

    def __init__(self, folder: Path, jars: FlinkJars, job_manager: JobManager, slots: int) -> None:
        super().__init__(folder, jars)
        self._job_manager = job_manager
        self._slots = slots

    def _command(self) -> list[str]:
        config = {
            **_addresses(self._job_manager.rpc_port),
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "taskmanager.numberOfTaskSlots": str(self._slots),
            "taskmanager.cpu.cores": "2.0",
            # All parts, since no script works the rest out here.
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "192m",
            "taskmanager.memory.jvm-overhead.max": "192m",
            "taskmanager.memory.task.heap.size": "640m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.managed.size": "64m",
            "io.tmp.dirs": str(self.folder / "tmp"),
        }
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        options = ("-Xmx768m", "-XX:MaxDirectMemorySize=384m", "-XX:MaxMetaspaceSize=256m")
        return self._flink(main, config, *options)

    def _answers(self) -> bool:
        try:
            return bool(self._job_manager.get("/overview")["taskmanagers"])
        except (OSError, ValueError):
            return False


class JobServer(_Java):
    """Beam's job server; its port is the job endpoint of pipelines."""

    name = "Beam's job server"

    def __init__(self, folder: Path, jars: FlinkJars, job_manager: JobManager) -> None:
        super().__init__(folder, jars)
        self._job_manager = job_manager

    def _command(self) -> list[str]:
        command = self._java("-Xmx768m", "-jar", str(self._jars.job_server))
        command += [f"--flink-master={LOOPBACK}:{self._job_manager.port}", f"--job-host={LOOPBACK}"]
        command += [f"--job-port={self.port}", "--artifact-port=0", "--expansion-port=0"]
        return [*command, f"--artifacts-dir={self.folder / 'artifacts'}"]


class WorkerPool(_Supervised):
    """Starts and ends the Python processes of pipelines, in the `environment` given here."""

    name = "Beam's worker pool"

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._variables = environment

    def _command(self) -> list[str]:
        # A program without arguments is what the pool takes. This Python, with everything that is installed beside it.
        worker = self.folder / "worker"
        worker.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m beam_flowlogs.worker "$@"\n')
        worker.chmod(0o755)
        pool = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
        return [*pool, f"--service_port={self.port}", f"--container_executable={worker}"]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._variables}


class FlinkServers(NamedTuple):
    """The servers of a local Flink, in the order in which they start."""

    job_manager: JobManager
    task_manager: TaskManager
    job_server: JobServer
    worker_pool: WorkerPool


class Flink:
    """A local Flink that keeps everything in `folder`, and can run `slots` steps of a pipeline at a time."""

    def __init__(self, folder: Path, *, slots: int = 4, cache: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._slots = slots
        self._cache = cache or cache_folder()

    @property
    def known(self) -> bool:
        """Whether it has ever been started."""
        return self.folder.exists()

    @property
    def running(self) -> bool:
        """Whether any part of it runs."""
        return any(server.process for server in self.servers())

    def start(self, variables: Mapping[str, str], progress: Progress | None = None) -> FlinkServers:
        """Start what does not run, and return when all of it answers; `variables` are for the Python workers.

        Raises:
            LocalStackError: something cannot be fetched or started. Nothing is left running then.
        """
        progress = progress or Progress(disable=True)
        servers = self.servers(variables, install(self._cache, progress))
        try:
            for server in servers:
                task = progress.add_task(f"Starting {server.name}", total=None)
                server.start(progress)
                progress.remove_task(task)
        except BaseException:
            self.stop()
            raise
        return servers

    def servers(self, variables: Mapping[str, str] | None = None, jars: FlinkJars | None = None) -> FlinkServers:
        """The servers, running or not; without `jars` they can be asked and ended but not started."""
        jars = jars or FlinkJars(Path(), Path(), Java(Path(), 0))
        job_manager = JobManager(self.folder / "job-manager", jars)
        return FlinkServers(
            job_manager,
            TaskManager(self.folder / "task-manager", jars, job_manager, self._slots),
            JobServer(self.folder / "job-server", jars, job_manager),
            WorkerPool(self.folder / "worker-pool", variables or {}),
        )

    def stop(self) -> bool:
        """End all servers; jobs end with them, their checkpoints stay. Whether anything was running."""
        found = [server for server in reversed(self.servers()) if server.process]
        for server in found:
            server.stop()
        return bool(found)

    def wipe(self) -> None:
        """Stop and delete everything that is kept."""
        self.stop()
        for server in self.servers():
            server.wipe()

    def environment(self) -> dict[str, str]:
        """The environment variables that lead `flowlogs stream` here."""
        servers = self.servers()
        return {
            "FLOWLOGS_JOB_ENDPOINT": f"{LOOPBACK}:{servers.job_server.port}",
            "FLOWLOGS_WORKER_POOL": f"{LOOPBACK}:{servers.worker_pool.port}",
            "FLOWLOGS_FLINK_URL": servers.job_manager.url,
        }


def _addresses(rpc_port: int) -> dict[str, str]:
    return {
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": str(rpc_port),
        "jobmanager.bind-host": LOOPBACK,
        "heartbeat.interval": "2000",
        "heartbeat.timeout": "12000",
    }


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=2).close()
    except OSError:
        return False
    return True


_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5p %c{1} %m%n
"""
