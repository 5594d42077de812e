"""A proxy that passes everything on to one server, tells of each exchange with its times, and can make trouble."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
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
        self.given_back: set[str] = set()
        """Receipts whose messages were made visible again."""

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
        """Note a receipt, a deletion or a return of messages."""
        action = exchange.headers.get("x-amz-target", "")
        with self._lock:
            if action.endswith("ReceiveMessage"):
                for message in json.loads(exchange.answer).get("Messages", ()):
                    self.announced[message["ReceiptHandle"]] = _keys(message["Body"])
            if action.endswith("DeleteMessageBatch"):
                for entry in json.loads(exchange.body)["Entries"]:
                    self.deleted.setdefault(entry["ReceiptHandle"], exchange.began)
            if action.endswith("ChangeMessageVisibilityBatch"):
                entries = json.loads(exchange.body)["Entries"]
                self.given_back.update(entry["ReceiptHandle"] for entry in entries if not entry["VisibilityTimeout"])


def _keys(body: str) -> list[str]:
    try:
        records = json.loads(body).get("Records", ())
    except ValueError:
        return []  # a message that is bad on purpose
    return [unquote_plus(record["s3"]["object"]["key"]) for record in records]


class Proxy:
    """A running proxy: where it is reached, and the trouble it makes."""

    def __init__(self, note: Callable[[Exchange], None]) -> None:
        self.url = ""
        self.refusing = False
        """While true, every request is answered 503 and not passed on."""
        self._note = note
        self._moments: list[tuple[str, Callable[[Exchange], bool], Callable[[], None]]] = []
        self._lock = threading.Lock()

    def once(self, phase: str, condition: Callable[[Exchange], bool], action: Callable[[], None]) -> threading.Event:
        """Act once: `before` the first request of a kind is passed on, or `after` its answer came; set when done."""
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        with self._lock:
            self._moments.append((phase, condition, act))
        return done

    def reached(self, phase: str, exchange: Exchange) -> None:
        """Act as told for this moment."""
        with self._lock:
            now = [moment for moment in self._moments if moment[0] == phase and moment[1](exchange)]
            self._moments = [moment for moment in self._moments if moment not in now]
        for _, _, act in now:
            act()

    def answered(self, exchange: Exchange) -> None:
        """Take note of an exchange that went well."""
        self._note(exchange)
        self.reached("after", exchange)


@contextmanager
def recording(server_url: str, note: Callable[[Exchange], None]) -> Iterator[Proxy]:
    """Pass on what comes to the URL of the proxy that this yields, and give each finished exchange to `note`."""
    target = urlsplit(server_url)
    proxy = Proxy(note)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            began = time.time()
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            lower = {name.lower(): value for name, value in headers.items()}
            asked = Exchange(began, began, self.command, self.path, lower, body, b"")
            if proxy.refusing:
                self._answer(503, [], b"")
                return
            proxy.reached("before", asked)
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
            if answer.status == 200:
                proxy.answered(asked._replace(ended=time.time(), answer=content))
            self._answer(answer.status, answer.getheaders(), content)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            length = str(len(content))
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
                elif name.lower() == "content-length" and self.command == "HEAD":
                    length = value
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
