"""A receiver of webhooks: a real server, in threads of the test's process."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.local_server import LocalHandler, LocalServer, running

KEY = bytes(range(32))
SECRET = "whsec_" + b64encode(KEY).decode()
"""Of Standard Webhooks, as the option names it."""


@dataclass
class Received:
    """One call.

    Attributes:
        headers: in lower case.
        names: of the headers, as they were sent.
        status: of the answer.
    """

    path: str
    headers: dict[str, str]
    names: tuple[str, ...]
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
        self.before_answer: Callable[[], object] = lambda: None
        self.headers: dict[str, str] = {}
        receiver = self

        class Handler(LocalHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = 400 if any(text in body for text in receiver.refuses) else receiver.status
                receiver.calls.append(Received(self.path, headers, tuple(self.headers), body, status))
                receiver.before_answer()
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        self.server = LocalServer(Handler)
        self.url = f"{self.server.url}/hooks"

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, those of repeated calls included."""
        return [event for call in list(self.calls) for event in call.events]


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """Run a receiver."""
    receiver = WebhookReceiver()
    with running(receiver.server):
        yield receiver
