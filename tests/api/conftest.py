"""What a connection hears, told by long polls."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from tests.http_client import http

Heard = list[dict[str, Any]]


@pytest.fixture
def hear(server: Any) -> Callable[[str, str], Heard]:
    """Return everything a connection of a user has to hear, without waiting for what never comes.

    A private message is sent behind it all; what was polled before that message was everything.
    """

    def everything(user: str, conn_id: str) -> Heard:
        last = str(uuid4())
        server.post("/message", {"user": "the end", "pm_users": [user], "uuid": last})
        heard: Heard = []
        while not any(item["uuid"] == last for item in heard):
            answer = http.get(server.url + "/listen", params={"conn_id": conn_id})
            assert answer.status_code == 200, answer.text
            heard += answer.json()
        return [item for item in heard if item.get("user") != "the end"]

    return everything
