"""The timer that ends a stream when the token of its client expires."""

import asyncio
import time
from typing import Any

import pytest
from tests.token_client import SECRET, token
from tests.transports.in_process import Stage, play
from tests.waiting import PATIENCE_S

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.key_ring import KeyRing
from channelstream.auth.token import TokenAuth, TokenRules
from channelstream.errors import BadToken
from channelstream.transports.socket_stream import SocketStream
from channelstream.transports.sse import SSEStream
from channelstream.transports.tokens import Tokens
from channelstream.transports.websocket import WebSocketStream


def websocket(stage: Stage) -> SocketStream:
    return WebSocketStream(stage.streams, stage.transport, stage.connection, deflate=False)


def event_stream(stage: Stage) -> SocketStream:
    return SSEStream(stage.streams, stage.transport, stage.connection)


@pytest.mark.parametrize("make", [websocket, event_stream])
def test_a_token_that_comes_for_a_lost_stream_sets_no_timer(make: Any) -> None:
    """A client may leave while its fresh token is checked; the timer would find no attachment, and keep the stream."""
    faults: list[Any] = []

    async def scenario(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        stream = await stage.opened(make(stage))
        stage.transport.abort()
        await stage.until(lambda: stage.connection.stream is None)
        stream.admit(Client(App(), "u", expires_s=0.0))
        for _ in range(10):  # The warning and the end are due at once, each in a turn of its own.
            await asyncio.sleep(0)

    play(scenario)
    assert faults == []


@pytest.mark.parametrize("make", [websocket, event_stream])
def test_a_warning_that_comes_a_little_early_says_25_seconds(make: Any) -> None:
    """As the protocol has it; a loop's timer may end before its time."""

    async def scenario(stage: Stage) -> None:
        stream = await stage.opened(make(stage))
        stream._warn(Client(App(), "u", expires_s=stage.streams.node.clock.wall() + 25.5))
        received = b""
        while b"expiring" not in received:
            received += await asyncio.wait_for(
                asyncio.get_running_loop().sock_recv(stage.client, 65_536), PATIENCE_S
            )
        assert b'"seconds":25}' in received
        stage.transport.abort()
        await stage.until(lambda: stage.connection.stream is None)

    play(scenario)


def test_a_token_that_expires_after_it_was_checked_is_refused_when_it_is_checked_again() -> None:
    """As before each command of a request whose body took long."""
    now_s = time.time()

    async def scenario(stage: Stage) -> None:
        nonlocal now_s
        rules = TokenAuth({"default": TokenRules(60)}, KeyRing([ApiKey("", SECRET, App())]))
        tokens = Tokens(rules, lambda: now_s, stage.streams.node.revocations)
        client = await tokens.client(token(life_s=30))
        tokens.check_again(client)
        now_s = client.expires_s
        with pytest.raises(BadToken, match="has expired"):
            tokens.check_again(client)

    play(scenario)
