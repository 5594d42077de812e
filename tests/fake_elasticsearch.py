"""A stand-in for Elasticsearch's `_bulk` over real HTTP: it keeps documents by id, and misbehaves when told to."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answer = tuple[int, Any]  # HTTP status, body (JSON)
JSON = "application/vnd.elasticsearch+json;compatible-with=8"


def error(status: int, kind: str, reason: str = "because") -> Answer:
    """A refusal of a whole request."""
    return status, {"error": {"type": kind, "reason": reason}, "status": status}


class FakeElasticsearch:
    """Serves on a free port while in its `with`.

    `answers`: for the next requests, an Answer instead of the work, or None to do it. `item_fault(action, document)`:
    a status and an error type for an item that fails, else None.
    """

    def __init__(self, port: int = 0) -> None:
        self.documents: dict[str, Any] = {}
        self.bodies: list[list[str]] = []  # ids, by request
        self.headers: list[dict[str, str]] = []
        self.answers: deque[Answer | None] = deque()
        self.item_fault: Callable[[str, Any], tuple[int, str] | None] = lambda _id, _document: None
        self.on_request: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                fake.on_request()
                with fake.lock:
                    fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                    status, answer = fake._answer(body) if "_bulk" in self.path else fake._read(self.path)
                data = answer if isinstance(answer, bytes) else json.dumps(answer, separators=(",", ":")).encode()
                self.send_response(status)
                self.send_header("x-elastic-product", "Elasticsearch")
                self.send_header("content-type", JSON)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_DELETE = do_POST  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeElasticsearch:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, body: bytes) -> Answer:
        lines = [json.loads(line) for line in body.splitlines()]
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        self.bodies.append([next(iter(action.values()))["_id"] for action, _ in pairs])
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            return answer
        items = [self._store(action, document) for action, document in pairs]
        errors = any("error" in result for item in items for result in item.values())
        return 200, {"errors": errors, "items": items}

    def _read(self, path: str) -> Answer:
        """Answer a refresh with nothing, and a search, scrolled or not, with everything at once."""
        documents = {} if path.startswith("/_search/scroll") else self.documents
        hits = [{"_id": name, "_source": document} for name, document in documents.items()]
        shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
        return 200, {"_scroll_id": "all", "_shards": shards, "hits": {"hits": hits}}

    def _store(self, action: dict[str, Any], document: Any) -> dict[str, Any]:
        ((operation, target),) = action.items()
        name = target["_id"]
        fault = self.item_fault(name, document)
        if fault is None and operation == "create" and name in self.documents:
            fault = 409, "version_conflict_engine_exception"
        if fault is not None:
            return {operation: {"status": fault[0], "error": {"type": fault[1], "reason": f"item {name}"}}}
        self.documents[name] = document
        return {operation: {"status": 201}}
