"""Calls between real nodes about a node: every living node answers, or the result says why not."""

import asyncio
from collections.abc import Callable

from tests.engines.conformance import Recorder
from tests.engines.redis.nodes import Nodes
from tests.waiting import soon

from channelstream.engines.base import Engine
from channelstream.service.commands import read_command
from channelstream.service.remote_calls import RemoteCall, RemoteCalls, RemoteResult, encode_result


def answering(engine: Engine, recorder: Recorder, name: bytes) -> RemoteCalls:
    """Let a node answer calls of `name` with its name."""

    async def answer(argument: bytes) -> bytes:
        return name + argument

    async def execute(data: bytes) -> bytes:
        call = read_command(data)
        assert isinstance(call, RemoteCall)
        return encode_result(await calls.execute(call))

    calls = RemoteCalls(engine.cluster)
    calls.register("name", answer)
    recorder.execute = execute  # type: ignore[method-assign]
    return calls


async def listed(engine: Engine, count: int) -> None:
    """Wait until a node sees so many: each is listed from its first heartbeat on."""

    async def are_listed() -> bool:
        return len(await engine.cluster.nodes()) == count

    await soon(are_listed)


def test_every_node_answers(with_nodes: Callable[..., None]) -> None:
    """The own one first; one of a version that answers something else is named with the reason."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        one = answering(engine, recorder, b"one")
        answering(*await nodes.member("ann"), b"two")
        await nodes.node()
        await listed(engine, 3)
        first, *others = await one.call_all("name", b"!")
        assert (first.is_here, first.result) == (True, RemoteResult(b"one!"))
        assert first.node is not None
        assert first.node.label == "node 0"
        assert {each.node.label: each.result for each in others if each.node} == {
            "node 1": RemoteResult(b"two!"),
            "node 2": RemoteResult(failure="The answer of the node cannot be read."),
        }

    with_nodes(life)


def test_a_node_that_is_silent_is_not_waited_for(with_one_shard: Callable[..., None]) -> None:
    """The call ends, and its result names that node."""

    async def life(nodes: Nodes) -> None:
        engine, recorder = await nodes.node()
        one = answering(engine, recorder, b"one")
        _, silent = await nodes.node()
        await listed(engine, 2)

        async def never(data: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        silent.execute = never  # type: ignore[method-assign]
        results = [each.result for each in await one.call_all("name")]
        assert results == [RemoteResult(b"one"), RemoteResult(failure="The node does not answer.")]

    with_one_shard(life)
