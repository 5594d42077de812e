"""A proxy that passes everything on to one server and tells who watches of each exchange, with its times."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote_plus, urlsplit

_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")


class Exchange(NamedTuple):
    """A request and its answer; `began` is before the request was passed on, `ended` after the answer came back."""

    began: float
    ended: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    answer: bytes


class Record:
    """When what became durable, and when which message was deleted, by the clock of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.documents: dict[str, dict[str, float]] = defaultdict(dict)
        """Object -> document -> when Elasticsearch had acknowledged it for the first time."""
        self.merged: dict[str, dict[str, float]] = defaultdict(dict)
        """Object -> roll-up -> when Elasticsearch had first acknowledged the roll-up with the object's part."""
        self.announced: dict[str, list[str]] = {}
        """Receipt -> keys of the objects that its message announced."""
        self.deleted: dict[str, float] = {}
        """Receipt -> when its deletion was first asked for."""

    def elasticsearch(self, exchange: Exchange) -> None:
        """Note a bulk request."""
        if not exchange.path.startswith("/_bulk"):
            return
        items = json.loads(exchange.answer).get("items", [])
        lines = exchange.body.splitlines()
        with self._lock:
            for item, action, document in zip(items, lines[::2], lines[1::2]):
                target = next(iter(json.loads(action).values()))
                status = next(iter(item.values()))["status"]
                if target["_index"].startswith("flowlogs-raw") and status in (200, 201, 409):
                    self.documents[target["_id"][:16]].setdefault(target["_id"], exchange.ended)
                if target["_index"].startswith("flowlogs-rollup") and status in (200, 201):
                    for object_id in json.loads(document)["flowlogs"]["rollup"]["parts"]:
                        self.merged[object_id].setdefault(target["_id"], exchange.ended)

    def aws(self, exchange: Exchange) -> None:
        """Note a receipt or a deletion of messages."""
        action = exchange.headers.get("x-amz-target", "")
        with self._lock:
            if action.endswith("ReceiveMessage"):
                for message in json.loads(exchange.answer).get("Messages", ()):
                    records = json.loads(message["Body"]).get("Records", ())
                    keys = [unquote_plus(record["s3"]["object"]["key"]) for record in records]
                    self.announced[message["ReceiptHandle"]] = keys
            if action.endswith("DeleteMessageBatch"):
                for entry in json.loads(exchange.body)["Entries"]:
                    self.deleted.setdefault(entry["ReceiptHandle"], exchange.began)


@contextmanager
def recording(server_url: str, note: Any) -> Iterator[str]:
    """Pass on what comes to the URL that this yields, and give each finished exchange to `note`."""
    target = urlsplit(server_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            began = time.time()
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=90)
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self.close_connection = True  # as the server itself would look
                return
            finally:
                connection.close()
            ended = time.time()
            lower = {name.lower(): value for name, value in headers.items()}
            if answer.status == 200:
                note(Exchange(began, ended, self.command, self.path, lower, body, content))
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header(
                "Content-Length",
                answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content)),
            )
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
