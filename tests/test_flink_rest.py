"""What is asked of Flink, and what comes back from there that nobody expects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from beam_flowlogs.flink_rest import FlinkError, FlinkRest, JobAt

JOBS = b'{"jobs":[{"jid":"1","name":"flowlogs","state":"CANCELED","start-time":1}]}'


def _answer(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body) if length is None else length,
        body,
    )


@pytest.fixture
def answers() -> Iterator[Callable[[bytes], str]]:
    """Return the address of who gives this one answer to everybody."""
    servers = []

    def start(answer: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def test_a_job_that_was_cancelled_is_stopped(answers: Callable[[bytes], str]) -> None:
    assert JobAt(answers(_answer(JOBS)), "flowlogs").is_stopped(5)


@pytest.mark.parametrize(
    "answer",
    [
        _answer(b"<html>Sign in</html>"),
        _answer(JOBS, length=len(JOBS) + 1),
        _answer(b"\xff\xfe"),
        _answer(b"{}"),
        _answer(b"[]"),
        _answer(b'{"jobs":[{"name":"flowlogs"}]}'),
        _answer(b"{}", status="503 Starting"),
        _answer(b"[]", status="503 Starting"),
        _answer(b'{"errors":[""]}', status="404 Not Found"),
        _answer(b'{"errors":["n', status="404 Not Found", length=100),
        b"220 mail.example ESMTP\r\n",
        b"",
    ],
)
def test_whatever_else_answers_the_job_is_not_known_to_be_stopped(
    answers: Callable[[bytes], str], answer: bytes
) -> None:
    assert JobAt(answers(answer), "flowlogs").is_stopped(5) is False


@pytest.mark.parametrize(
    "answer", [_answer(b"<html>Sign in</html>"), _answer(JOBS, length=len(JOBS) + 1), b"220 mail.example ESMTP\r\n"]
)
def test_what_is_no_flink_is_an_error_with_the_address_and_the_cure(
    answers: Callable[[bytes], str], answer: bytes
) -> None:
    url = answers(answer)
    with pytest.raises(FlinkError, match=f"{url} .*check --flink-url"):
        FlinkRest(url, timeout_s=5).jobs("flowlogs")


def test_what_flink_says_of_a_refusal_is_told_in_one_line(answers: Callable[[bytes], str]) -> None:
    url = answers(_answer(b'{"errors":["Job 1 not found\\n\\tat org.apache"]}', status="404 Not Found"))
    with pytest.raises(FlinkError, match=r"404 Job 1 not found$"):
        FlinkRest(url, timeout_s=5).jobs("flowlogs")
