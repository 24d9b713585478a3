"""The read range of a stream: from the join of its connection, or from the position that the application names."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import CLUSTER, SQLITE
from tests.http_client import http

pytestmark = pytest.mark.nodes(1, SQLITE, 3, CLUSTER)


class Scene:
    """A lobby and a private channel of one test, and a connection in the lobby."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.user, self.lobby, self.priv = (uuid4().hex for _ in range(3))
        self.others = server.connect(uuid4().hex, self.lobby, self.priv)

    def connect(self, *channels: str, **more: Any) -> str:
        return self.server.connect(self.user, *channels, **more)  # type: ignore[no-any-return]

    def say(self, *texts: str, where: str = "") -> None:
        """Publish in the private channel, or elsewhere."""
        self._send({"channel": where or self.priv}, texts)

    def whisper(self, *texts: str) -> None:
        """Send to the user outside of all channels."""
        self._send({"pm_users": [self.user]}, texts)

    def _send(self, to: dict[str, Any], texts: tuple[str, ...]) -> None:
        self.server.post("/message", [{"user": "x", **to, "message": {"text": text}} for text in texts])

    def position(self) -> str:
        """Ask about all channels: for other channels a node repeats the offsets it was given."""
        asked = {"include_users": False}
        return self.server.post("/info", {"info": asked})["position"]  # type: ignore[no-any-return]

    def resume(self, conn_id: str, since: str) -> tuple[list[str], list[str]]:
        """Return the channels a stream reports lost, and the texts that it brings."""
        self.say("the end", where=self.lobby)
        query = {"conn_id": conn_id, "since": since}
        lost: list[str] = []
        texts: list[str] = []
        while "the end" not in texts:
            for item in http.get(f"{self.server.url}/listen", params=query).json():
                lost += item.get("lost", [])
                texts += [item["message"]["text"]] if item["type"] == "message" else []
                query["since"] = item["position"]
            if "the end" not in texts:
                self.say("the end", where=self.lobby)
        return lost, texts[:-1]


@pytest.fixture
def scene(server: Any) -> Scene:
    return Scene(server)


def forged(position: str) -> str:
    """The beginning of the log, in all of its shards."""
    epochs, _, numbers = position.rpartition("-")
    return f"{epochs}-{'.'.join('0' for _ in numbers.split('.'))}"


def elsewhere(position: str) -> str:
    """A position in another log, in all of its shards."""
    epochs, _, numbers = position.rpartition("-")
    return f"{'.'.join('0' + epoch for epoch in epochs.split('.'))}-{numbers}"


@pytest.mark.parametrize("lie", [str, forged])
def test_a_stream_begins_where_its_connection_joined(scene: Scene, lie: Any) -> None:
    """Whatever position a client names, messages from before its join are neither delivered nor lost."""
    conn_id = scene.connect(scene.lobby)
    position = scene.position()
    scene.say("before")
    scene.server.post("/subscribe", {"conn_id": conn_id, "channels": [scene.priv]})
    scene.say("after")
    assert scene.resume(conn_id, lie(position)) == ([], ["after"])


def test_messages_between_two_subscriptions_are_not_delivered(scene: Scene) -> None:
    """A user removed from a channel and let in again receives what follows, and nothing from before it was removed."""
    conn_id = scene.connect(scene.lobby, scene.priv)
    position = scene.position()
    scene.say("first stay")
    scene.server.post("/unsubscribe", {"conn_id": conn_id, "channels": [scene.priv]})
    scene.say("between")
    scene.server.post("/subscribe", {"conn_id": conn_id, "channels": [scene.priv]})
    scene.say("second stay")
    assert scene.resume(conn_id, position) == ([], ["second stay"])


@pytest.mark.parametrize("lie", [str, forged])
def test_a_new_connection_begins_where_it_was_registered(scene: Scene, lie: Any) -> None:
    """In its channels and with private messages; an older connection of the user still receives them."""
    older = scene.connect(scene.lobby)
    position = scene.position()
    scene.whisper("before")
    scene.say("before, too")
    newer = scene.connect(scene.lobby, scene.priv)
    scene.whisper("after")
    assert scene.resume(newer, lie(position)) == ([], ["after"])
    assert scene.resume(older, position)[1] == ["before", "after", "the end"]


def test_the_application_lets_a_new_connection_read_on(scene: Scene) -> None:
    """A page that comes back with its position and a new conn_id has missed nothing."""
    gone = scene.connect(scene.lobby, scene.priv)
    scene.say("received")
    position = scene.position()
    scene.say("missed")
    scene.server.post("/disconnect", {"conn_id": gone})
    scene.whisper("missed, too")
    conn_id = scene.connect(scene.lobby, scene.priv, since=position)
    scene.say("after")
    lost, texts = scene.resume(conn_id, position)
    assert (lost, sorted(texts)) == ([], ["after", "missed", "missed, too"])


def test_the_application_lets_a_connection_read_earlier_events(scene: Scene) -> None:
    """From the position that the subscription names, not from where the client would like."""
    conn_id = scene.connect(scene.lobby)
    early = scene.position()
    scene.say("too early")
    named = scene.position()
    scene.say("allowed")
    scene.server.post("/subscribe", {"conn_id": conn_id, "channels": [scene.priv], "since": named})
    assert scene.resume(conn_id, early) == ([], ["allowed"])


def test_only_newly_joined_channels_begin_at_the_named_offset(scene: Scene) -> None:
    """A repeated /connect opens neither a channel the connection is in nor private messages of before."""
    early = scene.position()
    scene.say("before")
    scene.whisper("before")
    conn_id = scene.connect(scene.lobby, scene.priv)
    scene.connect(scene.lobby, scene.priv, conn_id=conn_id, since=early)
    assert scene.resume(conn_id, early) == ([], [])


def test_a_reused_conn_id_reads_from_its_new_join(scene: Scene) -> None:
    """It cannot read what the earlier connection could."""
    conn_id = scene.connect(scene.lobby, scene.priv)
    position = scene.position()
    scene.server.post("/disconnect", {"conn_id": conn_id})
    scene.say("between")
    scene.whisper("between")
    assert scene.connect(scene.lobby, scene.priv, conn_id=conn_id) == conn_id
    scene.say("after")
    assert scene.resume(conn_id, position) == ([], ["after"])


@pytest.mark.parametrize("spoil", [elsewhere, lambda position: "no position at all"])
def test_an_unprovable_position_of_the_application_is_lost(scene: Scene, spoil: Any) -> None:
    """It is no error; a client that asks for earlier events is sent the loss, and not that nothing is missing."""
    early = scene.position()
    scene.say("before", where=scene.lobby)
    scene.say("before")
    scene.whisper("before")
    conn_id = scene.connect(scene.lobby, scene.priv, since=spoil(early))
    scene.say("after")
    lost, _ = scene.resume(conn_id, early)
    assert sorted(lost) == sorted(["", scene.lobby, scene.priv])
    assert scene.resume(conn_id, scene.position()) == ([], [])


def test_an_entry_no_longer_in_the_log_is_lost(scene: Scene) -> None:
    """An application cannot open more than there is, and the page is sent the loss."""
    scene.connect(scene.lobby)  # Of a user who was not known then, nobody has kept private messages.
    scene.server.post("/channel_config", {scene.priv: {"log_events": 2}})
    position = scene.position()
    scene.say("1", "2", "3")
    conn_id = scene.connect(scene.lobby, scene.priv, since=position)
    assert scene.resume(conn_id, position) == ([scene.priv], [])


@pytest.mark.parametrize("since", [None, ""])
def test_no_position_means_from_now_on(scene: Scene, since: str | None) -> None:
    """Null, and the empty position of a page that has none yet."""
    early = scene.position()
    scene.say("before")
    conn_id = scene.connect(scene.lobby, scene.priv, since=since)
    assert scene.resume(conn_id, early) == ([], [])


def test_an_older_client_begins_where_it_was_registered(scene: Scene) -> None:
    """A stream without `since` brings the events since /connect, whatever position that named."""
    early = scene.position()
    scene.say("before")
    scene.whisper("before")
    conn_id = scene.connect(scene.lobby, scene.priv, since=early)
    scene.say("after")
    items = http.get(f"{scene.server.url}/listen", params={"conn_id": conn_id}).json()
    assert [item["message"]["text"] for item in items] == ["after"]


@pytest.mark.nodes(1)
def test_a_page_resumes_after_a_restart(own_server: Any, start_server: Any, tmp_path: Path) -> None:
    """The SQLite engine keeps positions: a position from before the restart is read from."""
    engine = f"sqlite:///{tmp_path / 'log.db'}"
    before = Scene(own_server("--engine", engine))
    before.connect(before.lobby, before.priv)
    position = before.position()
    before.say("missed")
    before.whisper("missed, too")
    before.server.stop()
    after = Scene(own_server("--engine", engine))
    after.user, after.lobby, after.priv = before.user, before.lobby, before.priv
    after.connect(after.lobby, after.priv)
    assert after.resume(after.connect(after.lobby, after.priv), position) == ([], [])
    conn_id = after.connect(after.lobby, after.priv, since=position)
    assert after.resume(conn_id, position) == ([], ["missed", "missed, too", "the end"])
