"""A receiver of webhooks: a real server, in threads of the test's process."""

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = bytes(range(32))
SECRET = "whsec_" + b64encode(KEY).decode()
"""Of Standard Webhooks, as the option names it."""


@dataclass
class Received:
    """One call.

    Attributes:
        headers: in lower case.
        status: of the answer.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The events of a body in either format."""
        body = json.loads(self.body)
        events: list[dict[str, Any]] = body["events"] if "events" in body else body["data"]["events"]
        return events


class WebhookReceiver:
    """Receives calls, and answers them as the test says.

    Attributes:
        url: where it listens.
        calls: what it has received, those included that it has not answered with 200.
        status: the status of the next answers.
        refuses: calls whose body has one of these texts are answered with 400 instead.
        before_answer: called in the thread of each call, which it may keep waiting.
    """

    def __init__(self) -> None:
        self.calls: list[Received] = []
        self.status = 200
        self.refuses: frozenset[bytes] = frozenset()
        self.before_answer: Callable[[], None] = lambda: None
        self.headers: dict[str, str] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = 400 if any(text in body for text in receiver.refuses) else receiver.status
                receiver.calls.append(Received(self.path, headers, body, status))
                receiver.before_answer()
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_arguments: object) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, those of repeated calls included."""
        return [event for call in list(self.calls) for event in call.events]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def start(self) -> None:
        self._thread.start()


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """Run a receiver."""
    receiver = WebhookReceiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.close()
