"""Streams of clients with tokens that are revoked, or get fresh ones, while the streams move to another process."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.e2e.wire import Ended, open_wire
from tests.redis_server import RedisServer
from tests.token_client import SECRET, token
from tests.upgrade.stage import TIMES, Stage, close, code_of, items, play, serving
from tests.waiting import soon
from websockets.asyncio.client import ClientConnection, connect
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


Refresh = Callable[[Stage, Any, str, str], Awaitable[None]]


async def refresh_by_stream(_stage: Stage, stream: ClientConnection, _conn_id: str, fresh: str) -> None:
    await stream.send(json.dumps({"id": 2, "type": "refresh", "token": fresh}))
    assert (await reply(stream))["id"] == 2


async def refresh_by_call(stage: Stage, _stream: object, conn_id: str, fresh: str) -> None:
    wire = await stage.calls()
    headers = {"authorization": f"Bearer {token('ann', jti='first')}"}
    command = {"id": 2, "type": "refresh", "token": fresh}
    status, _, answer = await wire.post(f"/client?conn_id={conn_id}", command, headers)
    assert (status, "result" in json.loads(answer)[0]) == (200, True), answer


async def reply(stream: ClientConnection) -> Any:
    """Return the next item that answers a command."""
    while True:
        for item in json.loads(await stream.recv()):
            if item["type"] == "reply":
                return item


@pytest.mark.parametrize("refresh", [refresh_by_stream, refresh_by_call])
def test_a_fresh_token_that_comes_after_the_copy_moves(refresh: Refresh) -> None:
    """Else the stream would end when the copied one expires, and its client could do what only that one grants."""

    async def scenario(stage: Stage) -> None:
        async with connect(f"ws://127.0.0.1:{stage.port}/ws") as stream:
            given = token("ann", jti="first", publish=["a"])
            await stream.send(json.dumps({"id": 1, "type": "connect", "token": given}))
            conn_id = (await reply(stream))["result"]["conn_id"]
            stage.after_copy = lambda: refresh(stage, stream, conn_id, token("ann", jti="second"))
            tally = await stage.upgrade()
            assert (tally["websocket"], tally["ended"]) == (1, 0)
            await stream.send(json.dumps({"id": 3, "type": "publish", "channel": "a", "message": 1}))
            assert (await reply(stream))["error"]["code"] == "forbidden"
            assert await revoked(stage, "first") == 0
            assert await revoked(stage, "second") == 1

    play(scenario, **TOKENS)


async def revoked(stage: Stage, token_id: str) -> int:
    """Revoke a token, and return how many connections end."""
    return await stage.server.streams.services.default.revoke(token_id, is_user=False)


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_fresh_token_that_comes_before_its_stream_goes_on(transport: str) -> None:
    """The new process answers calls before it continues streams."""

    async def scenario(stage: Stage) -> None:
        wire = await open_wire(transport, stage.port)
        stage.wires.append(wire)
        await wire.ask(f"&token={token('ann', jti='first')}", "")
        [greeting] = await items(wire)
        conn_id = greeting["result"]["conn_id"]

        stage.when_begun = lambda: refresh_by_call(stage, wire, conn_id, token("ann", jti="second"))
        tally = await stage.upgrade()
        assert (tally["websocket"] + tally["sse"], tally["ended"]) == (1, 0)
        assert stage.server.streams.arriving == {}
        assert await revoked(stage, "first") == 0
        assert await revoked(stage, "second") == 1
        assert await code_of(wire) == 4003

    play(scenario, **TOKENS)


def test_a_fresh_token_that_comes_by_another_node_before_the_start(redis: RedisServer) -> None:
    """The new process executes commands of other nodes before it continues the streams."""
    redis.cli("FLUSHALL")

    async def scenario(stage: Stage) -> None:
        wire = await open_wire("sse", stage.port)
        stage.wires.append(wire)
        await wire.ask(f"&token={token('ann', jti='first')}", "")
        [greeting] = await items(wire)
        conn_id = greeting["result"]["conn_id"]

        async with serving(engine=redis.address, **TOKENS) as other:

            async def refresh() -> None:
                await refresh_by_call(other, wire, conn_id, token("ann", jti="second"))

            stage.when_begun = refresh
            tally = await stage.upgrade()
            assert (tally["sse"], tally["ended"]) == (1, 0)
            assert await revoked(stage, "first") == 0
            assert await revoked(stage, "second") == 1
            assert await code_of(wire) == 4003

    play(scenario, engine=redis.address, **TOKENS)


def test_a_revocation_that_redis_loses_meanwhile_is_written_again(redis: RedisServer) -> None:
    """As one whose replica takes over and lacks it: no other node knows it."""
    redis.cli("FLUSHALL")

    async def scenario(stage: Stage) -> None:
        given = token("ann", channels=["a"])
        await revoke(stage.server)

        async def lose() -> None:
            redis.cli("DEL", *series(redis))

        stage.when_sent = lose
        await stage.upgrade()
        wire = await open_wire("sse", stage.port)
        stage.wires.append(wire)
        with pytest.raises(Ended, match="401"):
            await wire.ask(f"&token={given}", "")
        await soon(lambda: series(redis))

    play(scenario, engine=redis.address, **TOKENS)


def series(redis: RedisServer) -> list[str]:
    """Return the keys of Redis that have revocations."""
    return [key for key in redis.cli("KEYS", "*").split("\n") if "revocations" in key]
