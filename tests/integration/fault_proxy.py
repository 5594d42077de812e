"""An HTTP proxy that forwards to one server, and goes wrong on demand: for tests of what a client does then.

with FaultProxy("127.0.0.1", 9200) as proxy:
    client = connect(proxy.url)
    proxy.fail(Fault(status=503), None, Fault(cut_after=1000))  # for the next three requests, in order
    proxy.fail(Fault(status=429), when=lambda request: request.path.endswith("_bulk"))
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

_BLOCK = 64 << 10
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Fault:
    """What becomes of one request. ``status`` or ``garbage`` answer in the server's place, the others spoil its answer.

    ``delay`` seconds pass first. ``headers`` replace headers of the answer. After ``cut_after`` bytes of the body
    the connection ends: with a FIN, or with ``reset`` by a RST; so a ``cut_after`` of 0 leaves the headers only.
    ``forward`` sends a request on even though another answer is given: the server has done it, the client never knows.
    """

    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    reset: bool = False
    delay: float = 0.0
    garbage: bytes = b""
    forward: bool = False


@dataclass(frozen=True)
class Request:
    """One request as it came in; ``headers`` by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class _Plan:
    fault: Fault | None
    when: Callable[[Request], bool]


class FaultProxy:
    """Listens on a free port of 127.0.0.1 while its ``with`` block lasts. ``requests`` holds all that came in."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.requests: list[Request] = []
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, *faults: Fault | None, when: Callable[[Request], bool] = lambda _: True) -> None:
        """Plan one fault for each of the next requests that ``when`` accepts; None lets one pass."""
        with self._lock:
            self._plans.extend(_Plan(fault, when) for fault in faults)

    @property
    def planned(self) -> int:
        """The faults that no request has met yet: 0 shows that a test went the way it meant to."""
        return len(self._plans)

    def meet(self, request: Request) -> Fault | None:
        """Record a request and return the fault that is planned for it."""
        with self._lock:
            self.requests.append(request)
            for plan in self._plans:
                if plan.when(request):
                    self._plans.remove(plan)
                    return plan.fault
        return None

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a kept-alive connection of a client would hold the test's end up

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are the daily bread of these tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        proxy = cast(_Server, self.server).proxy
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        fault = proxy.meet(request) or Fault()
        time.sleep(fault.delay)
        if fault.garbage or fault.status:
            if fault.forward:
                self._forward(request).read()
            self._answer_in_place(fault)
        else:
            self._pass_on(self._forward(request), fault)

    def _forward(self, request: Request) -> http.client.HTTPResponse:
        server = http.client.HTTPConnection(*cast(_Server, self.server).proxy.target, timeout=60)
        server.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name not in _HOP_BY_HOP and name != "expect":
                server.putheader(name, value)
        server.putheader("connection", "close")
        server.endheaders(request.body or None)
        return server.getresponse()

    def _answer_in_place(self, fault: Fault) -> None:
        if fault.garbage:
            self.wfile.write(fault.garbage)
            self._hang_up(fault.reset)
            return
        self.send_response_only(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(fault.body)))
        self.end_headers()
        self.wfile.write(fault.body[: fault.cut_after])
        if fault.cut_after is not None:
            self._hang_up(fault.reset)

    def _pass_on(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response_only(answer.status, answer.reason)
        changed = {name.lower() for name in fault.headers}
        kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in _HOP_BY_HOP | changed]
        for name, value in [*kept, *fault.headers.items()]:
            self.send_header(name, value)
        # Without a length (a chunked answer) the end of the connection is the end of the body.
        endless = answer.length is None
        self.end_headers()
        left = fault.cut_after
        while left is None or left > 0:
            block = answer.read(_BLOCK if left is None else min(left, _BLOCK))
            if not block:
                break
            self.wfile.write(block)
            left = None if left is None else left - len(block)
        answer.close()
        if left == 0 or endless:
            self._hang_up(fault.reset)

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Closed at once while it lingers for 0 s, a connection ends with a RST in place of the FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
