"""A stand-in for Elasticsearch that takes a fixed time for each body, whatever else the machine does.

It tells whether a sender keeps its server at work, and nothing of what Elasticsearch can do.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

AT_ONCE = 2
"""Bodies that are worked on at a time, each at half of the pace; others wait for their turn."""

_READ = 1 << 20
_PRODUCT = ("x-elastic-product", "Elasticsearch")
_JSON = ("content-type", "application/vnd.elasticsearch+json;compatible-with=8")


@contextmanager
def serving(bytes_per_s: float) -> Iterator[str]:
    """Serve while in the ``with``, in a process of its own. Gives the address; GET tells the seconds of work so far."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(bytes_per_s / AT_ONCE, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(bytes_per_s: float, told: Connection) -> None:
    turn = threading.Semaphore(AT_ONCE)
    worked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(str(sum(worked)).encode())

        def do_POST(self) -> None:
            size = left = int(self.headers["content-length"])
            lines = 0
            while left:
                data = self.rfile.read(min(left, _READ))
                left -= len(data)
                lines += data.count(b"\n")
            if "_msearch" in self.path:
                self._answer(b'{"responses":[%b]}' % b",".join([b'{"status":200,"hits":{"hits":[]}}'] * (lines // 2)))
            elif "_bulk" not in self.path:
                self._answer(b'{"hits":{"hits":[]},"docs":[]}')
            else:
                with turn:
                    time.sleep(size / bytes_per_s)
                    worked.append(size / bytes_per_s)
                created = b",".join([b'{"create":{"status":201}}'] * (lines // 2))
                self._answer(b'{"errors":false,"items":[%b]}' % created)

        def _answer(self, data: bytes) -> None:
            self.send_response(200)
            for name, value in (_PRODUCT, _JSON, ("content-length", str(len(data)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.send(server.server_address[1])
    server.serve_forever()
