"""A real Elasticsearch node on the loopback interface, for the local stack and for tests that need the real thing."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import Progress

from beam_flowlogs.local.distribution import choose, install
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import cache_folder, is_root, make_folder
from beam_flowlogs.local.process import LOOPBACK, Process, exit_code, kill_group, spawn
from beam_flowlogs.local.server import Server

_CLUSTER = "flowlogs-local"
_LAUNCH_SECONDS = 180.0
_KEYSTORE_PASSWORD = "FLOWLOGS_KEYSTORE_PASSWORD"  # noqa: S105 - the name of a variable


def check_heap(text: str) -> None:
    """Raise ValueError unless ``text`` is a size of a heap with which Elasticsearch starts."""
    found = re.fullmatch(r"([1-9]\d{0,5})([mMgG])", text)
    mebibytes = int(found[1]) * (1024 if found[2] in "gG" else 1) if found else 0
    if not 256 <= mebibytes <= 31 * 1024:
        raise ValueError(f"{text!r} is no heap for Elasticsearch: give 256m to 31g, such as 512m or 2g")


class ElasticsearchServer(Server):
    """An Elasticsearch of one node in `folder`.

    ```python
    with ElasticsearchServer(folder, settings={"indices.breaker.total.limit": "10mb"}) as server:
        client = Elasticsearch(server.url)
    ```

    Args:
        folder: keeps data, configuration and logs from start to start.
        port: of the HTTP interface; 0 takes a free one and keeps it.
        version: one of the releases in distribution.py; "" takes the newest that an installed Java can run.
        heap: of the Java virtual machine, as in "1g".
        java_options: more options for it, separated by spaces.
        security: TLS, and a password for the user `elastic`; see `ca_path` and `password_file`.
        settings: more lines for elasticsearch.yml; they win over the ones made here.
        cache: the folder of the unpacked releases; default the user's own cache.
    """

    name = "Elasticsearch"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        version: str = "",
        heap: str = "1g",
        java_options: str = "",
        security: bool = False,
        settings: Mapping[str, Any] | None = None,
        cache: Path | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.security = security
        self.ca_path = self.folder / "ca.crt"
        self.password_file = self.folder / "password"
        self._version = version
        # Without performance counters, which Java keeps in /tmp, whatever its folder for temporary files.
        self._java_options = f"-Xms{heap} -Xmx{heap} -XX:-UsePerfData {java_options}".strip()
        self._settings = dict(settings or {})
        self._cache = cache or cache_folder()
        self._config = self.folder / "config"
        self._logs = self.folder / "logs"
        self._scratch = self.folder / "tmp"
        self._tool_options = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", f"-Djava.io.tmpdir={self._scratch}")
        # Elasticsearch refuses to run as root, so that a hole in it is not a hole in the machine. Where there is
        # nobody else to be, in a container mostly, it runs as the user that owns nothing.
        self._user = "nobody" if is_root() else ""

    @property
    def url(self) -> str:
        """Where the server answers, https with `security`; only good after the first start."""
        return super().url.replace("http:", "https:") if self.security else super().url

    def _launch(self, progress: Progress) -> Process:
        release, java = choose(self._version)
        dist = install(release, java, self._cache, progress)
        task = progress.add_task(f"Starting Elasticsearch {release.version}", total=None)
        self._prepare_folders(dist)
        if self.security:
            self._prepare_security(dist, java.home)
        pid_file = self._scratch / "pid"
        launcher = dist / "lib" / "tools" / "server-launcher"
        arguments = ["-d", "-p", str(pid_file)]
        if launcher.exists():  # Elasticsearch 9
            command = [str(java.home / "bin" / "java"), *self._tool_options, "-cp", f"{launcher}/*"]
            command += ["org.elasticsearch.server.launcher.ServerLauncher", *arguments]
        else:
            command = self._tool(dist, java.home, "server", "lib/tools/server-cli", *arguments)
        # The launcher starts the server as its child, waits until the node is there, and leaves.
        child = spawn(command, log=self._launch_log, env=self._environment(dist, java.home), cwd=dist, user=self._user)
        try:
            failed = exit_code(child, _LAUNCH_SECONDS)
        except BaseException:
            kill_group(child)
            raise
        if failed:
            raise LocalStackError(f"Elasticsearch could not be started:\n{self._last_words()}")
        progress.remove_task(task)
        return Process.of(int(pid_file.read_text()))

    def _answers(self) -> bool:
        try:
            return self._health()["status"] in ("yellow", "green")
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def _health(self) -> dict[str, Any]:
        """The cluster's health. Straight to the socket: a proxy in the environment must not come between."""
        connection: http.client.HTTPConnection
        headers = {}
        if self.security:
            context = ssl.create_default_context(cafile=str(self.ca_path))
            connection = http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=context)
            login = f"elastic:{self.password_file.read_text().strip()}"
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        else:
            connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s", headers=headers)
            health: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return health

    @property
    def _launch_log(self) -> Path:
        return self._scratch / "launch.log"

    def _log_files(self) -> tuple[Path, ...]:
        return self._logs / f"{_CLUSTER}.log", self._launch_log

    def _prepare_folders(self, dist: Path) -> None:
        make_folder(self.folder)
        shutil.rmtree(self._scratch, ignore_errors=True)
        for folder in (self._config, self._logs, self._scratch, self.folder / "data"):
            folder.mkdir(exist_ok=True)
        for name in ("log4j2.properties", "roles.yml", "role_mapping.yml", "users", "users_roles"):
            shutil.copyfile(dist / "config" / name, self._config / name)
        # Its log of garbage collections and its heap dumps can fill a disk; its crash files belong to the logs.
        options = (dist / "config" / "jvm.options").read_text().splitlines()
        options = [line for line in options if not line.startswith(("-Xlog:gc", "-XX:+HeapDump", "-XX:ErrorFile"))]
        options = [line for line in options if ":-Xlog:gc" not in line and "-XX:HeapDumpPath" not in line]
        options.append(f"-XX:ErrorFile={self._logs}/hs_err_pid%p.log")
        (self._config / "jvm.options").write_text("\n".join(options) + "\n")
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in self._all_settings().items()]
        (self._config / "elasticsearch.yml").write_text("".join(lines))
        self._give_to_user()

    def _all_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "cluster.name": _CLUSTER,
            "node.name": "local",
            "path.data": str(self.folder / "data"),
            "path.logs": str(self._logs),
            "network.host": LOOPBACK,
            "http.port": self.port,
            "transport.port": 0,  # any: nobody joins this cluster
            "discovery.type": "single-node",
            # Or a laptop's disk that is 95 % full makes every index read-only.
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "xpack.security.enabled": self.security,
        }
        if self.security:
            settings["xpack.security.autoconfiguration.enabled"] = False
            settings["xpack.security.http.ssl.enabled"] = True
            settings["xpack.security.http.ssl.keystore.path"] = "http.p12"
        return settings | self._settings

    def _prepare_security(self, dist: Path, java: Path) -> None:
        """A key and a certificate of its own, and its passwords in Elasticsearch's keystore; once per folder."""
        keystore = self._config / "elasticsearch.keystore"
        if keystore.exists():
            return
        password = secrets.token_urlsafe(18)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(password)
        p12 = self._config / "http.p12"
        p12.unlink(missing_ok=True)
        keytool = [
            str(java / "bin" / "keytool"),
            "-J-XX:-UsePerfData",
            "-storepass:env",
            _KEYSTORE_PASSWORD,
            "-keystore",
            str(p12),
        ]
        keytool += ["-storetype", "PKCS12", "-alias", "http"]
        self._run([*keytool, "-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-validity", "3650",
                   "-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1", "-ext", "bc:critical=ca:true"],
                  dist, java, password)  # fmt: skip
        certificate = self._run([*keytool, "-exportcert", "-rfc"], dist, java, password)
        self.ca_path.write_text(certificate)
        tool = ("keystore", "lib/tools/keystore-cli")
        self._run(self._tool(dist, java, *tool, "create"), dist, java, password)
        names = ("bootstrap.password", "xpack.security.http.ssl.keystore.secure_password")
        self._run(self._tool(dist, java, *tool, "add", "-x", "-f", *names), dist, java, password)

    def _run(self, command: list[str], dist: Path, java: Path, password: str) -> str:
        """Run a tool as the server's user; it may read the password twice from its input or from the environment."""
        done = subprocess.run(  # noqa: S603 - the command is ours
            command,
            input=f"{password}\n{password}\n",
            env=self._environment(dist, java) | {_KEYSTORE_PASSWORD: password},
            cwd=dist,
            user=self._user or None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LocalStackError(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _give_to_user(self) -> None:
        if self._user:
            for top in (self._config, self._logs, self._scratch, self.folder / "data"):
                shutil.chown(top, self._user)
                for path in top.rglob("*"):
                    shutil.chown(path, self._user)

    def _environment(self, dist: Path, java: Path) -> dict[str, str]:
        """Only what the server needs: nothing of the user's own settings may change it."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._scratch),
            "HOSTNAME": "localhost",
            "JAVA": str(java / "bin" / "java"),
            "JAVA_TYPE": "ES_JAVA_HOME",
            "ES_JAVA_HOME": str(java),
            "ES_HOME": str(dist),
            "ES_PATH_CONF": str(self._config),
            "ES_TMPDIR": str(self._scratch),
            "ES_DISTRIBUTION_TYPE": "zip",
            "ES_JAVA_OPTS": self._java_options,
            "CLI_JAVA_OPTS": " ".join(self._tool_options),
        }

    def _tool(self, dist: Path, java: Path, name: str, libraries: str, *arguments: str) -> list[str]:
        """The command of one of Elasticsearch's own tools, which the archive holds without their start scripts."""
        properties = {
            "cli.name": name,
            "cli.script": dist / "bin" / "elasticsearch",
            "cli.libs": libraries,
            "es.path.home": dist,
            "es.path.conf": self._config,
            "es.distribution.type": "zip",
            "es.java.type": "ES_JAVA_HOME",
        }
        command = [str(java / "bin" / "java"), *self._tool_options]
        command += [f"-D{key}={value}" for key, value in properties.items()]
        command += ["-cp", f"{dist}/lib/*:{dist}/lib/cli-launcher/*", "org.elasticsearch.launcher.CliToolLauncher"]
        return [*command, *arguments]
