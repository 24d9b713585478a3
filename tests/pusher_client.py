"""A client of Pusher's protocol on a raw WebSocket: it sends and is sent exactly what a test says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from tests.pusher_calls import KIT
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from channelstream.core.pusher_signing import channel_text, signature, user_text


class PusherClient:
    """One line.

    Attributes:
        socket_id: as the server has drawn it.
    """

    def __init__(self, stream: ClientConnection, app: dict[str, str]) -> None:
        self.stream = stream
        self._app = app
        established = self.next()
        assert established["event"] == "pusher:connection_established", established
        self.socket_id: str = json.loads(established["data"])["socket_id"]

    def next(self) -> Any:
        """Return the next frame."""
        return json.loads(self.stream.recv(PATIENCE_S))

    def sends(self, event: str, data: Any = None, **more: Any) -> Self:
        """Send an event; without data if that is None."""
        fields = {"event": event, **({} if data is None else {"data": data}), **more}
        self.stream.send(json.dumps(fields))
        return self

    def asks(self, event: str, data: Any = None, **more: Any) -> Any:
        """Send an event, and return the next frame."""
        return self.sends(event, data, **more).next()

    def auth(self, channel: str, channel_data: str | None = None) -> str:
        text = channel_text(self.socket_id, channel, channel_data)
        return f"{self._app['KEY']}:{signature(self._app['SECRET'], text)}"

    def subscribe(self, channel: str, user_id: str | None = None, user_info: Any = None) -> Any:
        """Subscribe with a signature, in a presence channel as this user; return the next frame."""
        data = {"channel": channel}
        if user_id is not None:
            info = {} if user_info is None else {"user_info": user_info}
            data["channel_data"] = json.dumps({"user_id": user_id, **info})
        return self.asks("pusher:subscribe", data | {"auth": self.auth(channel, data.get("channel_data"))})

    def joins(self, channel: str, *member: Any) -> Any:
        """Subscribe as `subscribe` does, which must succeed; return the data of the answer."""
        frame = self.subscribe(channel, *member)
        assert (frame["event"], frame["channel"]) == ("pusher_internal:subscription_succeeded", channel), (
            frame
        )
        return json.loads(frame["data"])

    def user_auth(self, user_data: str) -> str:
        mac = signature(self._app["SECRET"], user_text(self.socket_id, user_data))
        return f"{self._app['KEY']}:{mac}"

    def sign_in(self, user_data: str) -> Any:
        """Sign in, and return the next frame."""
        return self.asks("pusher:signin", {"auth": self.user_auth(user_data), "user_data": user_data})

    def nothing_more(self) -> bool:
        """Whether nothing was sent before the answer to a ping."""
        return bool(self.asks("pusher:ping") == {"event": "pusher:pong", "data": "{}"})

    def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end of the line; return code and reason."""
        with suppress(ConnectionClosed):
            while True:
                self.stream.recv(PATIENCE_S)
        return self.stream.close_code, self.stream.close_reason


def address(server: Any, key: str = KIT["KEY"], query: str = "protocol=7&client=test&version=1") -> str:
    """Return the URL of clients."""
    return f"{server.url.replace('http', 'ws', 1)}/app/{key}?{query}"


@contextmanager
def line(server: Any, app: dict[str, str] = KIT, **more: Any) -> Iterator[PusherClient]:
    """Open a line; `more` is that of websockets."""
    with connect(address(server, app["KEY"]), **{"compression": None, **more}) as stream:
        yield PusherClient(stream, app)
