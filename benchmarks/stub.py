"""A server in a process of its own, so that its CPU is not ours: S3's GetObject, Elasticsearch's ``_bulk``, no more.

Objects are the files of a folder, and every bulk item is answered as created.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import unquote

_READ = 1 << 20


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve while in the ``with``: objects are at ``/bucket/path below folder``. Gives the address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(str(folder), there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(folder: str, told: Connection) -> None:
    @cache
    def etag(path: Path) -> str:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = Path(folder, unquote(self.path.split("?")[0]).split("/", 2)[2])
            self._answer(path.read_bytes(), ("ETag", f'"{etag(path)}"'))

        def do_POST(self) -> None:
            left, lines = int(self.headers["content-length"]), 0
            while left:
                data = self.rfile.read(min(left, _READ))
                left -= len(data)
                lines += data.count(b"\n")
            items = ",".join(['{"create":{"status":201}}'] * (lines // 2))
            answer = f'{{"errors":false,"items":[{items}]}}'.encode()
            self._answer(
                answer,
                ("x-elastic-product", "Elasticsearch"),
                ("content-type", "application/vnd.elasticsearch+json;compatible-with=8"),
            )

        def _answer(self, data: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(200)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.send(server.server_address[1])
    server.serve_forever()
