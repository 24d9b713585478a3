"""What clients send while everything is held, and what a failure leaves."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.wire import CallWire, open_wire
from tests.transports.in_process import CLIENT_BUFFER_BYTES, UPGRADE
from tests.upgrade.stage import Stage, code_of, hold, items, of, play, post, sign, texts
from tests.waiting import PATIENCE_S, soon
from tests.webhook_receiver import SECRET

from channelstream import housekeeping
from channelstream.api.messages import CHUNK
from channelstream.close_codes import CloseCode
from channelstream.core.facts import Fact, MessageAccepted
from channelstream.core.rounds import MANY_EVENTS
from channelstream.errors import CannotHandOver
from channelstream.http.connection import HttpConnection
from channelstream.http.phase import Work
from channelstream.integrations.webhooks.sender import Sender
from channelstream.transports.heartbeat import Heartbeat
from channelstream.transports.websocket import WebSocketStream
from channelstream.upgrade import holding

PATH = "/message"
CONTENT = json.dumps([{"user": "app", "channel": "a", "message": {"text": "late"}}]).encode()


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"


async def begin_to_publish(stage: Stage) -> tuple[CallWire, Callable[[], Any]]:
    """Send half of a request; return its connection, and what sends the rest."""
    calls = await stage.calls()
    fields = {
        "Host": "test",
        "Content-Length": str(len(CONTENT)),
        "content-type": "application/json",
        **sign(PATH),
    }
    lines = (f"POST {PATH} HTTP/1.1", *map(": ".join, fields.items()), "", "")
    calls._writer.write("\r\n".join(lines).encode() + CONTENT[:5])
    await stage.reads(calls)
    await soon(lambda: stage.server.node.move.is_settled)  # Its bounds are short, and a disk may be slow.

    async def rest() -> None:
        calls._writer.write(CONTENT[5:])
        for _ in range(10):  # The server reads it in these turns of the loop, if it reads.
            await asyncio.sleep(0)

    return calls, rest


def test_a_request_that_is_complete_too_late_is_not_carried_out(engine: str) -> None:
    """Its connection is closed without an answer: the state that it would change is with the other process."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        calls, stage.when_sent = await begin_to_publish(stage)
        await stage.upgrade()
        await stage.old[0].parts.http_server.close()
        with suppress(ConnectionError):
            assert await calls._reader.read() == b""
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario, engine=engine, upgrade_pause_s=0.1)


def test_a_request_that_is_received_meanwhile_is_carried_out_afterwards(engine: str) -> None:
    """If nothing comes of the move."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        calls, stage.when_sent = await begin_to_publish(stage)
        await stage.fail()
        assert (await calls._head())[0] == 200
        assert await texts(wire, 1) == ["late"]

    play(scenario, engine=engine, upgrade_pause_s=0.1)


def test_calls_do_not_wait_for_a_request_that_does_not_come() -> None:
    """Anyone may send the half of one: it has its time before calls wait, and no more then."""

    async def scenario(stage: Stage) -> None:
        _, rest = await begin_to_publish(stage)
        await soon(lambda: stage.server.parts.http_server.works(Work.RECEIVING))
        held = stage.giver()
        await held.hold_streams()
        await stage.publish("meanwhile")
        held._holding._parts = replace(held._parts, pause_s=PATIENCE_S)
        await held.freeze()
        await rest()
        assert not stage.server.parts.http_server.works(Work.HANDLER)
        await held.thaw()

    play(scenario, upgrade_pause_s=0.1)


def test_a_request_that_is_being_received_has_time_while_calls_are_served() -> None:
    """Its connection would be closed without an answer if it had only the time for which calls wait."""

    async def scenario(stage: Stage) -> None:
        calls, rest = await begin_to_publish(stage)
        await soon(lambda: stage.server.parts.http_server.works(Work.RECEIVING))
        held = stage.giver()
        holding = asyncio.create_task(held.hold_streams())
        await stage.publish("meanwhile")
        assert not holding.done()
        await rest()
        assert (await calls._head())[0] == 200
        await holding
        await held.thaw()

    play(scenario)


def test_a_change_of_a_connection_is_waited_for() -> None:
    """It would be known to the old process only; one that does not end fails the upgrade."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        held = stage.giver()
        async with stage.server.node.local.locks.of(of("ann")):
            await held.hold_streams()
            with pytest.raises(CannotHandOver, match="upgrade_pause_s"):
                await held.freeze()
        await held.thaw()
        await stage.publish("after")

    play(scenario, upgrade_pause_s=0.05)


def test_publishers_that_are_held_back_are_answered() -> None:
    """A flush to very many streams may take longer than calls may; what is left of it is written when streams are held."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        await stage.publish("before")
        assert await texts(wire, 1) == ["before"]
        rounds = stage.server.node.hub.rounds
        await soon(lambda: not rounds.is_due)
        # As a flush leaves them that goes on after other work.
        rounds.is_due, rounds.waiting_events = True, MANY_EVENTS
        rounds.slices.append((0, []))
        publishing = asyncio.create_task(stage.publish(*(f"held {number}" for number in range(CHUNK + 1))))
        await soon(lambda: rounds.when_begun)
        assert not publishing.done()
        await stage.upgrade()
        await publishing
        assert len(await texts(wire, CHUNK + 1)) == CHUNK + 1

    play(scenario, upgrade_pause_s=0.1)


def test_requests_that_were_sent_ahead_stay_unread_by_the_other_process() -> None:
    """As ever: its memory does not grow with what a client sends while a request is in progress."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        near, far = socket.socketpair()
        with near:
            poll = f"GET /listen?conn_id={of('ann')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            http_server = stage.server.parts.http_server
            connection = HttpConnection(http_server, received=2 * poll)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, far)
            await soon(lambda: connection.work is Work.HANDLER)
            assert not connection._transport.is_reading()
            connection.abort()

    play(scenario)


def test_streams_are_read_again_after_a_hold_that_fails() -> None:
    """Also one whose reading has paused meanwhile; not before, since what this process reads the other one lacks."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        stream = stage.server.node.hub.connections[of("ann")].stream
        assert isinstance(stream, WebSocketStream)
        held = stage.giver()
        await held.hold_streams()
        _, _ = await begin_to_publish(stage)
        freezing = asyncio.create_task(held.freeze())
        await soon(lambda: stage.server.parts.http_server.is_held)
        large = b"\x82\xff" + (1 << 17).to_bytes(8) + bytes(4) + bytes(1 << 17)
        stream.data_received(large)
        await soon(lambda: stream.is_settled)
        assert not stream._transport.is_reading()
        freezing.cancel()
        await asyncio.gather(freezing, return_exceptions=True)
        await held.thaw()
        wire._writer.write(b"\x89\x80\0\0\0\0")
        while (await wire._frame())[0] != 0x8A:  # type: ignore[attr-defined]
            pass
        stream.data_received(large)
        await soon(stream._transport.is_reading)

    play(scenario)


@pytest.mark.parametrize("is_lost", [False, True])
def test_streams_that_catch_up_are_waited_for_while_calls_are_served(
    is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would end if they had only the time for which calls wait. One that has caught up, or is lost, delays nothing."""
    monkeypatch.setattr(holding, "CATCH_UP_S", 2 * PATIENCE_S)

    async def scenario(stage: Stage) -> None:
        entered, may_read, node = asyncio.Event(), asyncio.Event(), stage.server.node
        replay = node.reads.replay

        async def slow(*arguments: Any, **named: Any) -> Any:
            entered.set()
            await may_read.wait()
            return await replay(*arguments, **named)

        first = await stage.stream("ws", "ann", "a")
        position = (await items(first))[0]["position"]
        await first.close()
        await stage.publish("missed")
        monkeypatch.setattr(node.reads, "replay", slow)
        wire = await open_wire("ws", stage.port)
        stage.wires.append(wire)
        await wire.ask(of("ann"), position)
        await entered.wait()
        held, stream = stage.giver(), node.hub.connections[of("ann")].stream
        assert isinstance(stream, WebSocketStream)
        holding = asyncio.create_task(held.hold_streams())
        await stage.publish("meanwhile")
        is_waiting = not holding.done()
        if is_lost:
            await wire.close()
            await holding
        may_read.set()
        await holding
        assert is_waiting
        assert stream.is_open is not is_lost
        assert is_lost or stream.is_settled
        await held.thaw()
        if not is_lost:
            assert await texts(wire, 2) == ["missed", "meanwhile"]

    play(scenario, upgrade_pause_s=0.01)


def test_a_hold_that_is_cancelled_early_leaves_the_periodic_work() -> None:
    """It waits for a round, and gives back what it has not got."""

    async def scenario(stage: Stage) -> None:
        housekeeping, held = stage.server.parts.housekeeping, stage.giver()
        async with housekeeping._turn:
            freezing = asyncio.create_task(hold(held))
            await asyncio.sleep(0)
            await post(await stage.calls(), "/info", {})
            freezing.cancel()
            await asyncio.gather(freezing, return_exceptions=True)
            await held.thaw()
        assert not housekeeping._turn.locked()

    play(scenario)


@pytest.mark.replaces_compiled
def test_connections_expire_at_the_process_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What expired where the state is sent already would live on at the other process."""
    monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL_S", 0.0)

    async def scenario(stage: Stage) -> None:
        node, rounds, swept = stage.server.node, 0, asyncio.Event()
        sweep = node.sweep

        async def seen() -> None:
            swept.set()

        async def counted() -> None:
            nonlocal rounds
            rounds += 1
            await sweep()

        async def rests() -> None:
            before = rounds
            for _ in range(10):  # There would be a round in each of these turns of the loop.
                await asyncio.sleep(0)
            assert rounds == before

        monkeypatch.setattr(node, "sweep", counted)
        stage.while_frozen = stage.when_sent = rests
        await stage.fail()
        failed = rounds
        await soon(lambda: rounds > failed)
        await stage.upgrade()
        await rests()
        monkeypatch.setattr(stage.server.node, "sweep", seen)
        await swept.wait()

    play(scenario)


def test_heartbeats_are_sent_by_the_process_that_serves() -> None:
    """One that is not written whole would be torn by what the other process writes."""

    async def scenario(stage: Stage) -> None:
        heartbeat = stage.server.parts.streams.heartbeat

        async def rests() -> None:
            assert not beats(heartbeat)

        stage.while_frozen = stage.when_sent = rests
        await stage.fail()
        assert beats(heartbeat)
        await stage.upgrade()
        await rests()
        assert beats(stage.server.parts.streams.heartbeat)

    play(scenario)


def beats(heartbeat: Heartbeat) -> bool:
    return heartbeat._timer is not None and not heartbeat._timer.cancelled()


def test_webhooks_are_sent_by_the_process_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by both of them, nor by none after an upgrade that has failed. No other node gets the lease meanwhile."""

    async def release() -> None:
        pytest.fail("the lease is released")

    async def scenario(stage: Stage) -> None:
        sender = stage.server.parts.webhooks._sender
        assert sender is not None
        monkeypatch.setattr(sender._outbox, "release", release)
        stage.server.parts.webhooks.start()
        await soon(lambda: sender.is_sending)
        stage.while_frozen = partial(is_silent, sender)
        await stage.fail()
        await soon(lambda: sender.is_sending)
        await stage.upgrade()
        await is_silent(sender)
        assert sender is not stage.server.parts.webhooks._sender

    play(scenario, webhook_urls=("https://a.example",), webhook_secret=SECRET)


def test_what_webhooks_report_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old process goes on while the engine does not take it, and is upgraded afterwards."""

    async def scenario(stage: Stage) -> None:
        outbox = stage.server.node.outbox
        takes, append = asyncio.Event(), outbox.append

        async def late(facts: Sequence[Fact]) -> None:
            await takes.wait()
            await append(facts)

        monkeypatch.setattr(outbox, "append", late)
        await stage.publish("a message")
        held = stage.giver()
        with pytest.raises(CannotHandOver, match="webhooks"):
            await hold(held)
        await held.thaw()
        takes.set()
        await stage.server.node.reports.settle(PATIENCE_S)
        await stage.upgrade()
        kept = await stage.server.node.outbox.read("default", (0,), 10)
        assert [type(each.fact) for each in kept] == [MessageAccepted]

    more: dict[str, Any] = {"webhook_urls": ("https://a.example",), "webhook_secret": SECRET}
    play(scenario, webhook_events=("message.accepted",), upgrade_pause_s=0.1, **more)


async def is_silent(sender: Sender) -> None:
    assert not sender.is_sending
    assert sender._task is None


def test_an_engine_that_does_not_proceed_lets_clients_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stops then, and its drain closes streams as ever."""

    async def scenario(stage: Stage) -> None:
        async def fail() -> None:
            raise OSError("the disk is full")

        wire = await stage.stream("ws", "ann", "a")
        monkeypatch.setattr(stage.server.node._engine, "proceed", fail)
        with pytest.raises(OSError, match="full"):
            await stage.fail()
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario)


def test_a_client_that_has_not_caught_up_has_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that cannot continue after a hold that fails is closed; its connection does not stay for ever."""
    monkeypatch.setattr(holding, "CATCH_UP_S", 0.0)

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        connection = stage.server.node.hub.connections[of("ann")]
        position = stage.server.node.position
        for _ in range(8):
            await stage.publish(*["x" * 60_000] * 30)
        with socket.socket() as client:
            # It does not read, and the kernel takes little for it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
            client.connect(("127.0.0.1", stage.port))
            query = f"{of('ann')}&since={position}"
            client.sendall(UPGRADE % query.encode())
            await soon(lambda: stage.server.node.stalls > 0)
            await stage.fail()
            await soon(lambda: connection.stream is None)
            assert connection.deadline_s is not None

    play(scenario, upgrade_pause_s=0.01)


@pytest.mark.parametrize("transport", ["ws", "sse"])
@pytest.mark.parametrize("moment", ["while_frozen", "when_sent"])
def test_a_connection_may_end_during_a_hold_that_fails(transport: str, moment: str) -> None:
    """As another node ends it, or takes it over. Its stream is closed, and those of all others go on."""

    async def scenario(stage: Stage) -> None:
        ended, wire = await stage.stream(transport, "bob", "a"), await stage.stream(transport, "ann", "a")
        setattr(stage, moment, lambda: stage.server.node.end(of("bob"), CloseCode.NORMAL, "disconnected"))
        await stage.fail()
        assert await code_of(ended) == CloseCode.RESTARTING
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]

    play(scenario)


def test_a_fault_in_one_stream_is_not_that_of_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends, and its client comes back; it does not stay open without a word."""

    async def scenario(stage: Stage) -> None:
        faulty, wire = await stage.stream("ws", "bob", "a"), await stage.stream("ws", "ann", "a")
        continue_from = WebSocketStream.continue_from

        def fail(stream: WebSocketStream, record: Any) -> None:
            if record.conn_id == of("bob"):
                raise ZeroDivisionError
            continue_from(stream, record)

        monkeypatch.setattr(WebSocketStream, "continue_from", fail)
        with caplog.at_level(logging.ERROR):
            await stage.upgrade()
        await stage.publish("after")
        assert await texts(wire, 1) == ["after"]
        with suppress(ConnectionError):
            await faulty._reader.read()

    play(scenario)
    assert "a stream of another process cannot be continued" in caplog.text
