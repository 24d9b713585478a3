"""The events of a connection, read by long polls."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from tests.http_client import http

Received = list[dict[str, Any]]


@pytest.fixture
def receive(server: Any) -> Callable[[str, str], Received]:
    """Return everything a connection of a user has to receive, without waiting for more.

    A private message is sent behind it all; what was polled before that message was everything.
    """

    def everything(user: str, conn_id: str) -> Received:
        last = str(uuid4())
        server.post("/message", {"user": "the end", "pm_users": [user], "uuid": last})
        received: Received = []
        while not any(item["uuid"] == last for item in received):
            answer = http.get(server.url + "/listen", params={"conn_id": conn_id})
            assert answer.status_code == 200, answer.text
            received += answer.json()
        return [item for item in received if item.get("user") != "the end"]

    return everything
