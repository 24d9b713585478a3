"""Calls of the procedures of a node: what a failure is, where there is no other node."""

import asyncio

import msgspec
import pytest

from channelstream.close_codes import CloseCode
from channelstream.core.hub import Hub
from channelstream.core.node_status import NodeStatus
from channelstream.engines.cluster import OwnerSilent, SingleNode
from channelstream.errors import NotFound, Unavailable
from channelstream.service import remote_calls
from channelstream.service.channel_ends import ChannelEnds
from channelstream.service.remote_calls import (
    ANSWER_BYTES,
    NodeResult,
    RemoteCall,
    RemoteCalls,
    RemoteResult,
    encode_result,
)
from channelstream.wire.protocols import PROTOCOLS


async def _reverse(argument: bytes) -> bytes:
    return argument[::-1]


async def _missing(argument: bytes) -> bytes:
    raise NotFound("There is no such connection.")


async def _broken(argument: bytes) -> bytes:
    raise ZeroDivisionError


async def _long(argument: bytes) -> bytes:
    return bytes(ANSWER_BYTES + 1)


@pytest.fixture
def calls() -> RemoteCalls:
    calls = RemoteCalls(SingleNode())
    for procedure in (_reverse, _missing, _broken, _long):
        calls.register(procedure.__name__, procedure)
    return calls


def test_a_node_without_others_answers_itself(calls: RemoteCalls) -> None:
    found = asyncio.run(calls.call_all("_reverse", b"abc"))
    assert found == [NodeResult(None, True, RemoteResult(b"cba"))]


@pytest.mark.parametrize(
    ("result", "read"),
    [
        (RemoteResult(msgspec.msgpack.encode(["a"])), ["a"]),
        (RemoteResult(failure="The node does not answer."), None),
        (RemoteResult(msgspec.msgpack.encode({"a": 1})), None),
    ],
)
def test_an_answer_that_is_missing_or_of_another_version_is_none(
    result: RemoteResult, read: list[str] | None
) -> None:
    decode = msgspec.msgpack.Decoder(list[str]).decode
    assert NodeResult(None, False, result).read(decode) == read


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("unknown", "The version of the node does not know this."),
        ("_missing", "There is no such connection."),
        ("_broken", "The node has failed; its log says why."),
        ("_long", "The answer of the node is too long."),
    ],
)
def test_a_failure_is_a_part_of_the_result(
    calls: RemoteCalls, name: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And only what nobody expected is logged with its traceback."""
    assert asyncio.run(calls.execute(RemoteCall(name, b""))) == RemoteResult(failure=failure)
    assert [record.message for record in caplog.records if record.exc_info] == (
        ["the procedure _broken has failed"] if name == "_broken" else []
    )


class Cluster(SingleNode):
    """Another node has no link for so many calls, and then answers 2; this one answers 1."""

    node_id = "here"

    def __init__(self, silent: int) -> None:
        self.silent = silent

    async def nodes(self) -> list[NodeStatus]:
        return [NodeStatus(name, name, 0, 0.0, True) for name in ("here", "there")]

    async def ask(self, conn_id: str, command: bytes) -> bytes | None:
        answer = await self.ask_node("there", command)
        if answer is None:
            raise OwnerSilent("no link")
        return answer

    async def ask_node(self, node_id: str, command: bytes) -> bytes | None:
        self.silent -= 1
        return None if self.silent >= 0 else encode_result(RemoteResult(msgspec.msgpack.encode(2)))


@pytest.mark.parametrize(
    ("silent", "reaches_all", "count"),
    [(0, False, 3), (1, False, 1), (0, True, 3), (3, True, 3), (4, True, None)],
)
def test_a_node_without_a_link_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, silent: int, reaches_all: bool, count: int | None
) -> None:
    """Where it has to be reached: it may be upgraded, and still have its streams. Nobody waits when it has answered."""
    further = () if count is None else (3600.0,)
    monkeypatch.setattr(remote_calls, "SILENT_DELAYS_S", (0.0, 0.0, 0.0, *further))

    async def one(argument: bytes) -> bytes:
        return msgspec.msgpack.encode(1)

    async def scenario() -> int:
        calls = RemoteCalls(Cluster(silent))
        calls.register("one", one)
        return await calls.count_all("one", b"", "It is not counted.", reaches_all=reaches_all)

    if count is None:
        with pytest.raises(Unavailable, match=r"It is not counted. The node is out of reach."):
            asyncio.run(scenario())
    else:
        assert asyncio.run(scenario()) == count


@pytest.mark.parametrize(("silent", "further"), [(0, (3600.0,)), (3, (3600.0,)), (4, ())])
def test_the_owner_of_a_connection_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, silent: int, further: tuple[float, ...]
) -> None:
    """A client's command would be refused, since the connection seems to be unknown, while its node is upgraded."""
    monkeypatch.setattr(remote_calls, "SILENT_DELAYS_S", (0.0, 0.0, 0.0, *further))
    result = asyncio.run(RemoteCalls(Cluster(silent)).call_owner("c1", "two", b""))
    assert result == (RemoteResult(msgspec.msgpack.encode(2)) if further else None)


def test_connections_end_at_a_node_that_is_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_calls, "SILENT_DELAYS_S", (0.0,))

    async def scenario() -> int:
        ends = ChannelEnds(
            RemoteCalls(Cluster(silent=1)), Hub(PROTOCOLS.formats, lambda: None), lambda *ended: None
        )
        return await ends.end_all("a", CloseCode.TOKEN_EXPIRED, "signed out")

    assert asyncio.run(scenario()) == 2
