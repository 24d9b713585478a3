"""Calls that repeat the head of the one before: each is answered as on a connection of its own."""

import json
import random
import socket
from http.client import HTTPResponse
from typing import Any

import pytest
from tests.conftest import RunningServer
from tests.waiting import PATIENCE_S

BODIES = (
    b'{"user": "ann", "channel": "repeated", "message": 1}',
    b'{"user": "ann", "channel": "repeated", "message": {"text": "hello"}}',
    b'[{"user": "ann", "channel": "repeated", "message": 1}]',
    b'{"user": "ann", "pm_users": ["bob"], "message": 1}',
    b'{"user": "ann", "message": 1}',
    b"[]",
    b"no JSON",
    b"",
)
DRAWN = {"uuid", "timestamp", "position"}
"""Fields of answers that are others each time."""


def answer(line: socket.socket, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
    """Return status, headers and JSON of the answer to a call in one piece."""
    fields = {"host": "x", "content-length": str(len(body))} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    line.sendall("\r\n".join(lines).encode() + body)
    response = HTTPResponse(line, method=method)
    response.begin()
    text = response.read()
    fields = dict(response.getheaders()) | {"date": ""}
    return response.status, fields, json.loads(text) if text else None


def shown(value: Any) -> Any:
    """Return JSON without what is another each time."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    return (
        {name: each for name, each in value.items() if name not in DRAWN}
        if isinstance(value, dict)
        else value
    )


def dial(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT", "HEAD"])
@pytest.mark.parametrize("path", ["/message", "/user_state", "/nothing"])
def test_a_repeated_head_is_answered_as_the_first(
    server: RunningServer, path: str, method: str, seed: int
) -> None:
    """Whatever its credentials and its body: nothing of the call before is in the answer."""
    chance, signed = random.Random(seed), server.sign(path)
    heads: list[dict[str, str]] = [
        signed,
        signed | {"origin": "https://a.example"},
        {"x-channelstream-secret": "wrong"},
        {},
    ]
    with dial(server) as kept:
        for headers in chance.choices(heads, k=4):
            for body in chance.choices(BODIES, k=5):
                with dial(server) as fresh:
                    one, other = (answer(line, method, path, headers, body) for line in (kept, fresh))
                assert one[:2] == other[:2]
                assert shown(one[2]) == shown(other[2])


def test_calls_whose_heads_differ_in_changing_fields_have_their_own(server: RunningServer) -> None:
    """Of their keys of idempotency, a repeated one is found, and no other."""
    uuids = []
    with dial(server) as kept:
        for number, key in enumerate(("a", "b", "c", "c", "d")):
            headers = server.sign("/message") | {"idempotency-key": f"own {key}", "x-request-id": str(number)}
            _, _, message = answer(kept, "POST", "/message", headers, BODIES[0])
            uuids.append(message["uuid"])
    assert uuids[2] == uuids[3]
    assert len(set(uuids)) == 4
