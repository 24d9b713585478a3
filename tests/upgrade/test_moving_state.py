"""What a move to another process keeps of the state: channels, users, connections, nonces and figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SECRET
from tests.e2e.wire import open_wire
from tests.pusher_calls import KIT
from tests.signing import signature
from tests.upgrade.stage import Stage, items, of, over_a_line, play, texts
from websockets.asyncio.client import connect

from channelstream.engines.base import Receiver
from channelstream.errors import CannotHandOver
from channelstream.server import Server
from channelstream.upgrade.taker import Taker


def test_a_signed_request_is_not_answered_again(engine: str, move: Callable[[Stage], Any]) -> None:
    """The nonces move, too; and what was signed before the move, and not sent, is answered after it."""

    async def scenario(stage: Stage) -> None:
        wire, content = await stage.calls(), {"info": {}}

        async def status(signed: dict[str, str]) -> int:
            return (await wire.post("/info", content, signed))[0]

        body = json.dumps(content).encode()
        used, unused = (signature(SECRET, "POST", "/info", body) for _ in range(2))
        assert await status(used) == 200
        await move(stage)
        assert [await status(each) for each in (used, unused, unused)] == [401, 200, 401]

    play(scenario, engine=engine)


def test_what_was_signed_before_its_nonce_was_lost_is_not_answered_after_a_move(engine: str) -> None:
    """Whatever has lost it, a start or Redis: the next process does not know it, either."""

    async def scenario(stage: Stage) -> None:
        wire, content = await stage.calls(), {"info": {}}
        before = signature(SECRET, "POST", "/info", json.dumps(content).encode(), ahead_s=-20)
        stage.server.node.signals.log_replaced.emit()
        statuses = [(await wire.post("/info", content, before))[0]]
        await stage.upgrade()
        statuses.append((await wire.post("/info", content, before))[0])
        assert statuses == [503, 503]

    play(scenario, engine=engine)


def test_nobody_joins_or_parts(engine: str) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.call("/channel_config", [["a", {"notify_presence": True}]])
        watcher = await stage.stream("ws", "ann", "a")
        await stage.stream("sse", "bob", "a")
        while (await items(watcher))[-1]["type"] != "presence":
            pass
        await stage.upgrade()
        await stage.publish("after")
        assert [item["type"] for item in await items(watcher)] == ["message"]
        info = await stage.call("/info", {"info": {"channels": ["a"]}})
        assert sorted(info["channels"]["a"]["users"]) == ["ann", "bob"]

    play(scenario, engine=engine)


def test_the_state_stays(engine: str) -> None:
    """Settings, history, states of users and private messages are answered as before."""

    async def scenario(stage: Stage) -> None:
        await stage.call("/channel_config", [["a", {"store_history": True, "history_size": 2}]])
        await stage.stream("ws", "ann", "a", "b")
        await stage.call("/user_state", {"user": "ann", "user_state": {"age": 7, "name": "A"}})
        await stage.publish("one", "two", "three")
        asked = {"info": {"channels": ["a", "b"], "include_history": True, "include_connections": True}}
        before = await stage.call("/info", asked)
        await stage.upgrade()
        after = await stage.call("/info", asked)
        assert without_times(after) == without_times(before)

    play(scenario, engine=engine)


def test_a_client_that_is_away_resumes(engine: str) -> None:
    """From its position, with all that it missed before and after the move."""

    async def scenario(stage: Stage) -> None:
        wire = await stage.stream("ws", "ann", "a")
        await stage.publish("seen")
        while (seen := (await items(wire))[-1])["type"] != "message":
            pass
        await wire.close()
        await stage.publish("missed")
        await stage.upgrade()
        await stage.publish("missed too")
        again = await open_wire("ws", stage.port)
        stage.wires.append(again)
        await again.ask(of("ann"), seen["position"])
        [resumed] = await items(again)
        assert (resumed["recovered"], resumed["lost"]) == (["", "a"], [])
        assert await texts(again, 2) == ["missed", "missed too"]

    play(scenario, engine=engine)


def test_what_changes_after_the_copy_moves_as_it_is_then(engine: str) -> None:
    """Connections that came, ended or were registered again, and channels that they joined or left."""

    async def scenario(stage: Stage) -> None:
        stays = await stage.stream("ws", "ann", "a", "b")
        ends = await stage.stream("ws", "bob", "a")
        await stage.register("cid", "a")

        async def change() -> None:
            await stage.call("/subscribe", {"conn_id": of("ann"), "channels": ["c"]})
            await stage.call("/unsubscribe", {"conn_id": of("ann"), "channels": ["b"]})
            for user in ("bob", "cid"):
                await stage.call("/disconnect", {"conn_id": of(user)})
            await stage.register("cid", "c")
            stage.late = await stage.stream("sse", "dee", "c")
            before.append(await stage.call("/info", asked))

        before: list[Any] = []
        asked = {"info": {"include_users": True, "include_connections": True}}
        stage.after_copy = change
        tally = await stage.upgrade()
        assert (tally["websocket"], tally["sse"], tally["ended"]) == (1, 1, 0)
        assert [without_times(await stage.call("/info", asked))] == list(map(without_times, before))
        await stage.publish("after", channel="c")
        for wire in (stays, stage.late):
            assert await texts(wire, 1) == ["after"]
        assert sorted(stage.server.node.hub.connections) == sorted(map(of, ("ann", "cid", "dee")))
        await ends.close()

    play(scenario, engine=engine)


def test_a_connection_waits_as_long_as_before() -> None:
    """One without a stream has the rest of its time, and not that of a new one, nor of one whose stream is lost."""

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        connection = stage.server.node.hub.connections[of("ann")]
        stage.server.node.local.departures.extend(connection, 100_000.0)
        before_s = connection.deadline_s
        stage.settings = replace(stage.settings, unattached_timeout_s=10.0)
        await stage.upgrade()
        after_s = stage.server.node.hub.connections[of("ann")].deadline_s
        assert after_s == pytest.approx(before_s, abs=600)

    play(scenario)


def test_connections_are_there_before_the_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of many nodes unregisters, when it starts, what its node does not have."""
    counts: list[int] = []

    async def scenario(stage: Stage) -> None:
        await stage.register("ann", "a")
        node_of_new = stage.new

        def new(**more: Any) -> Server:
            server = node_of_new(**more)
            start = server.node._engine.start

            async def counted(receiver: Receiver) -> None:
                counts.append(len(server.node.hub.connections))
                await start(receiver)

            monkeypatch.setattr(server.node._engine, "start", counted)
            return server

        monkeypatch.setattr(stage, "new", new)
        await stage.upgrade()

    play(scenario)
    assert counts == [1]


def test_another_engine_is_refused(tmp_path: Path) -> None:
    """A new process with another configuration does not begin with nothing."""

    async def scenario(stage: Stage) -> None:
        await stage.call("/info", {})
        held, other = stage.giver(), stage.new(engine=f"sqlite:///{tmp_path}/other.db")
        with pytest.raises(CannotHandOver, match="the engine has changed"):
            await over_a_line(held.copy(), Taker(other.parts))
        await held.thaw()

    play(scenario)


def without_times(info: Any) -> Any:
    """Return an answer without times of last use, which are those of the move for what is in use."""
    if isinstance(info, dict):
        return {key: without_times(each) for key, each in info.items() if key != "last_active"}
    return [without_times(each) for each in info] if isinstance(info, list) else info


def test_the_figures_of_the_past_lack_nothing_of_the_time_before(engine: str) -> None:
    """Not only those of intervals that have ended: the longest one is ten minutes."""

    async def scenario(stage: Stage) -> None:
        await stage.upgrade()
        for name in ("hour", "day", "week"):
            assert await stage.server.node.time_series.read(f"figures of {name}", 0.0), name

    play(scenario, engine=engine)


SUBSCRIBED = "pusher_internal:subscription_succeeded"


def test_a_client_of_pusher_is_subscribed_to_what_it_joined_after_the_copy() -> None:
    """Else it could not leave the channel any more, and would be relayed there no event."""

    async def scenario(stage: Stage) -> None:
        async with connect(f"ws://127.0.0.1:{stage.port}/app/{KIT['KEY']}?protocol=7") as line:

            async def asks(event: str, **data: str) -> str:
                await line.send(json.dumps({"event": event, "data": data}))
                return str(json.loads(await line.recv())["event"])

            assert json.loads(await line.recv())["event"] == "pusher:connection_established"

            async def subscribe() -> None:
                assert await asks("pusher:subscribe", channel="open") == SUBSCRIBED

            stage.after_copy = subscribe
            tally = await stage.upgrade()
            assert (tally["websocket"], tally["ended"]) == (1, 0)
            [connection] = stage.server.node.hub.connections.values()
            assert len(connection.channels) == 1
            await line.send(json.dumps({"event": "pusher:unsubscribe", "data": {"channel": "open"}}))
            assert await asks("pusher:ping") == "pusher:pong"
            assert not connection.channels

    play(scenario, **{f"pusher_{name.lower()}": value for name, value in KIT.items()})
