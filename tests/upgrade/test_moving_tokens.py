"""Streams of clients with tokens that are revoked while the streams move to another process."""

import json
from typing import Any

import pytest
from tests.redis_server import RedisServer
from tests.token_client import SECRET, token
from tests.upgrade.stage import TIMES, Stage, close, play
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from channelstream.config import Settings
from channelstream.server import Server, build

TOKENS: dict[str, Any] = {"secret": SECRET, "token_max_age_s": 3600.0}


async def revoke(server: Server) -> None:
    """Answer `POST /revoke` for ann."""
    await server.streams.services.default.revoke("ann", is_user=True)


async def ends_when_revoked(stage: Stage) -> None:
    """Move the stream of a client whose token is revoked meanwhile: it ends."""
    async with connect(f"ws://127.0.0.1:{stage.port}/ws") as stream:
        given = token("ann", channels=["a"])
        await stream.send(json.dumps({"id": 1, "type": "connect", "token": given}))
        assert json.loads(await stream.recv())[0]["result"]["user"] == "ann"
        tally = await stage.upgrade()
        assert (tally["websocket"], tally["ended"]) == (1, 0)
        with pytest.raises(ConnectionClosedError) as ended:
            while True:
                await stream.recv()
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4003, "token revoked")


def test_a_token_that_is_revoked_before_its_stream_goes_on(engine: str) -> None:
    """The new process answers calls before it continues streams."""

    async def scenario(stage: Stage) -> None:
        stage.when_prepared = revoke
        await ends_when_revoked(stage)

    play(scenario, engine=engine, **TOKENS)


def test_a_token_that_is_revoked_while_no_process_is_reached(redis: RedisServer) -> None:
    """By another node of the service."""
    redis.cli("FLUSHALL")

    async def scenario(stage: Stage) -> None:
        other = build(Settings(engine=redis.address, **TIMES, **TOKENS))
        await other.node.start()
        stage.when_sent = lambda: revoke(other)
        try:
            await ends_when_revoked(stage)
        finally:
            await close(other)

    play(scenario, engine=redis.address, **TOKENS)
