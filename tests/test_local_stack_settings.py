from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beam_flowlogs.cli.local import app
from beam_flowlogs.local import folders
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import check_heap
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import cache_folder, make_folder, state_folder
from beam_flowlogs.local.process import Process, free_port, spawn
from beam_flowlogs.local.server import Server
from beam_flowlogs.local.stack import FOREIGN_AWS_VARIABLES, Stack, StackInfo

INFO = StackInfo("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:2/0/q", "a bucket", {"AWS_REGION": "r"})


def test_the_shell_lines_set_every_variable_and_put_the_users_own_aws_settings_aside() -> None:
    script = f'AWS_PROFILE=mine; export AWS_PROFILE; eval "{INFO.shell()}"; env'
    environment = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    lines = environment.splitlines()
    for name, value in INFO.environment().items():
        assert f"{name}={value}" in lines
    assert not [line for line in lines if line.startswith(FOREIGN_AWS_VARIABLES)]


def test_a_shell_that_took_the_environment_over_does_not_pass_for_another_elasticsearch(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "elasticsearch").mkdir()
    (tmp_path / "elasticsearch" / "server.json").write_text(json.dumps({"port": port, "pid": 0, "started": ""}))
    ours = Stack(tmp_path, elasticsearch_url=f"http://127.0.0.1:{port}/")
    assert ours.status().elasticsearch.state == "stopped"
    another = Stack(tmp_path, elasticsearch_url=f"http://127.0.0.1:{free_port()}")
    assert another.status().elasticsearch.state == "not answering"


def test_an_elasticsearch_url_that_leads_nowhere_is_an_error_and_nothing_is_started(
    make_home: Callable[[], Path],
) -> None:
    home = make_home()
    stack = Stack(home, elasticsearch_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(LocalStackError, match=r"nothing answers there.*unset it"):
        stack.up()
    assert not (home / "aws").exists()


def test_a_password_in_the_elasticsearch_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="leave them out") as refused:
        Stack(tmp_path, elasticsearch_url="https://elastic:precious@example.com:9200")
    assert "precious" not in str(refused.value)


def test_stopping_a_stack_that_never_was_leaves_no_folder(tmp_path: Path) -> None:
    assert not Stack(tmp_path / "stack", elasticsearch_url="").down()
    assert not (tmp_path / "stack").exists()


def test_the_pid_of_a_stopped_server_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"S3 and SQS emulator.*start it first"):
        _ = AwsEmulator(tmp_path).pid


def test_a_missing_emulator_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LocalStackError, match=r"pip install 'beam-flowlogs\[local\]'"):
        AwsEmulator(tmp_path).start()


def test_folders_follow_the_users_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "FLOWLOGS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(folders, "is_root", lambda: False)
    assert cache_folder() == tmp_path / ".cache" / "beam-flowlogs"
    assert state_folder() == tmp_path / ".local" / "state" / "beam-flowlogs"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/c")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/tmp/s")
    assert cache_folder() == Path("/var/tmp/c/beam-flowlogs")
    assert state_folder() == Path("/var/tmp/s/beam-flowlogs")
    monkeypatch.setenv("FLOWLOGS_HOME", "/var/tmp/h")
    assert state_folder() == Path("/var/tmp/h")


def test_root_is_told_which_folder_is_closed_to_the_user_that_elasticsearch_runs_as(
    make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = make_home() / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(folders, "is_root", lambda: True)
    with pytest.raises(LocalStackError, match=f"cannot enter {closed}"):
        make_folder(closed / "stack")


@pytest.mark.parametrize("text", ["256m", "512M", "1g", "31G", "1024m"])
def test_a_heap_that_elasticsearch_starts_with_is_taken(text: str) -> None:
    check_heap(text)


@pytest.mark.parametrize("text", ["", "g", "1", "1gb", "-1g", "0g", "64m", "64g", "1.5g", "1g -Dx=y", "99999999g"])
def test_any_other_heap_is_refused_before_anything_starts(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give 256m to 31g"):
        check_heap(text)
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path / "stack"), f"--heap={text}"])
    assert result.exit_code == 2
    assert not (tmp_path / "stack").exists()


class _Sleeper(Server):
    """A server that is up at once, or, with a last word, never."""

    def __init__(self, folder: Path, last_word: str = "") -> None:
        super().__init__(folder)
        self.name = folder.name
        self._last_word = last_word

    def _launch(self, progress: object) -> Process:
        script = f"echo {self._last_word}; exit 1" if self._last_word else "exec sleep 600"
        return spawn(
            ["/bin/sh", "-c", script], log=self._log_files()[0], env={"PATH": "/usr/bin:/bin"}, cwd=self.folder
        )

    def _answers(self) -> bool:
        return not self._last_word

    def _log_files(self) -> tuple[Path, ...]:
        return (self.folder / "log",)


def _stack(home: Path, aws: Server) -> tuple[Stack, Server]:
    stack = Stack(home, elasticsearch_url="")
    elasticsearch = _Sleeper(home / "elasticsearch")
    stack._elasticsearch, stack._aws = elasticsearch, aws  # type: ignore[assignment]
    aws.require = lambda: None  # type: ignore[attr-defined]
    return stack, elasticsearch


def test_a_start_that_fails_stops_what_it_has_started(make_home: Callable[[], Path]) -> None:
    home = make_home()
    stack, elasticsearch = _stack(home, _Sleeper(home / "aws", "this start failed"))
    with pytest.raises(LocalStackError, match="this start failed"):
        stack.up()
    assert elasticsearch.process is None


def test_a_start_that_fails_leaves_alone_what_ran_before(make_home: Callable[[], Path]) -> None:
    home = make_home()
    stack, elasticsearch = _stack(home, _Sleeper(home / "aws", "this start failed"))
    with elasticsearch:
        with pytest.raises(LocalStackError):
            stack.up()
        assert elasticsearch.running


def test_a_failure_shows_what_this_start_has_logged_and_nothing_older(make_home: Callable[[], Path]) -> None:
    home = make_home() / "aws"
    home.mkdir()
    (home / "log").write_text("an earlier start\n")
    with pytest.raises(LocalStackError, match="now") as failed:
        _Sleeper(home, "now").start()
    assert "earlier" not in str(failed.value)
    assert str(home / "log") in str(failed.value)


def test_an_emulator_that_is_not_installed_is_told_before_anything_starts(
    make_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    home = make_home()
    with pytest.raises(LocalStackError, match=r"pip install .*beam-flowlogs\[local\].*-e '\.\[local\]'"):
        Stack(home, elasticsearch_url="").up()
    assert not list(home.iterdir())
