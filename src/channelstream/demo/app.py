"""The chat demo's backend: how a web application uses channelstream.

This is the application's half. Browsers send every action to this application. It decides who they are and
what they may do, and then calls the push server with a signed HTTP request (``push_server.py``). The push
server sends the resulting events to the browsers over their WebSocket. The browser's half is in ``static/``.

Your application knows its users from their session, and the author of a message from its database. This
application gives each visitor a signed cookie (``visitors.py``) and keeps authors and private messages
(``private.py``) in bounded tables.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from channelstream.demo.input import (
    CHANNELS,
    NAME_CHARACTERS,
    STATUSES,
    TEXT_CHARACTERS,
    Body,
    Endpoint,
    Refused,
    answered,
    read_channels,
    read_json,
    read_name,
    read_position,
    read_status,
    read_text,
)
from channelstream.demo.private import PrivateMessages
from channelstream.demo.push_server import PushServer
from channelstream.demo.visitors import Visitor, Visitors
from channelstream.pages.bounded import Bounded
from channelstream.pages.html import Renderer

CHANNEL_CONFIG = {"notify_presence": True, "notify_state": True, "store_history": True, "history_size": 100}
CHANNEL_CONFIGS = dict.fromkeys(CHANNELS, CHANNEL_CONFIG)
INFO_OPTIONS = {"include_history": True, "include_users": True, "return_public_state": True}
PAGE_MESSAGES = 20
"""Messages of a channel that a page gets when it connects, and each time it asks for older ones."""
REMEMBERED = 10_000
"""Most connections and most messages whose owner is remembered. Older messages can no longer be changed."""

Action = Callable[[Visitor, Body], Awaitable[Any]]


@dataclass(frozen=True)
class Sent:
    """The author and the recipients of a message, so that only the author can change it."""

    author: Visitor
    recipients: Body


class Demo:
    """The demo's page, and the actions of its buttons."""

    def __init__(
        self, server: PushServer, renderer: Renderer, cookie_secret: str, heartbeat_s: float
    ) -> None:
        """Create the demo.

        Args:
            heartbeat_s: time between two heartbeats of the push server, so that the page notices one that is missing.
        """
        self._server = server
        self._renderer = renderer
        self._heartbeat_s = heartbeat_s
        self._visitors = Visitors(cookie_secret)
        self._connections: Bounded[str, Visitor] = Bounded(REMEMBERED)
        self._sent: Bounded[str, Sent] = Bounded(REMEMBERED)
        self._private = PrivateMessages()

    def routes(self) -> list[Route]:
        return [
            answered("/demo", self._page, method="GET"),
            answered("/demo/alive", self._alive, method="GET"),
            answered("/demo/connect", self._connect),
            answered("/demo/leave", self._leave),
            answered("/demo/subscribe", self._signed_in(self._subscribe)),
            answered("/demo/unsubscribe", self._signed_in(self._unsubscribe)),
            answered("/demo/state", self._signed_in(self._set_status)),
            answered("/demo/info", self._signed_in(self._info)),
            answered("/demo/older", self._signed_in(self._older)),
            answered("/demo/typing", self._signed_in(self._typing)),
            answered("/demo/message", self._signed_in(self._send)),
            answered("/demo/message", self._signed_in(self._edit), method="PATCH"),
            answered("/demo/message", self._signed_in(self._delete), method="DELETE"),
        ]

    async def _page(self, request: Request) -> Response:
        visitor = self._visitors.of(request)
        limits = {"name_characters": NAME_CHARACTERS, "text_characters": TEXT_CHARACTERS}
        name = visitor.name if visitor else ""
        values = {"visitor": name, "heartbeat_s": self._heartbeat_s, **limits}
        return await self._renderer.page(request, "demo.html", values)

    async def _alive(self, _request: Request) -> Response:
        """Answer a page that wonders whether its line is silent."""
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        """Sign in with a name, or with that of the cookie, and register a connection at the push server.

        The browser opens its WebSocket with the conn_id of the answer.
        """
        body = await read_json(request)
        known = "username" not in body
        name = self._visitors.signed_in(request).name if known else read_name(body["username"])
        channels = read_channels(body.get("channels", CHANNELS[:2]))
        visitor = self._visitors.claim(request, name)
        # A page that lost its connection may resume from its last position: everybody may read these channels, and the
        # private messages are the visitor's own unless another visitor had the name before.
        since = read_position(body.get("since")) if known and self._visitors.may_resume(visitor) else ""
        answer = await self._server.call("POST", "/connect", _connect_body(visitor, channels, since))
        self._connections[answer["conn_id"]] = visitor
        own = {"all_channels": CHANNELS, "private": self._private.of(visitor)}
        response = JSONResponse({**_newest(answer), **own})
        self._visitors.set_cookie_of(request, response, visitor)
        return response

    async def _leave(self, request: Request) -> Response:
        """End the visitor's connections at once and release the name."""
        await read_json(request)
        visitor = self._visitors.signed_in(request)
        self._visitors.release(visitor)
        for conn_id in [key for key, owner in self._connections.items() if owner == visitor]:
            del self._connections[conn_id]
            await self._server.call("POST", "/disconnect", {"conn_id": conn_id})
        response = JSONResponse({})
        self._visitors.clear_cookie(request, response)
        return response

    async def _subscribe(self, visitor: Visitor, body: Body) -> Any:
        return await self._change_channels("/subscribe", visitor, body)

    async def _unsubscribe(self, visitor: Visitor, body: Body) -> Any:
        return await self._change_channels("/unsubscribe", visitor, body)

    async def _change_channels(self, path: str, visitor: Visitor, body: Body) -> Any:
        conn_id = self._check_owner(body.get("conn_id"), visitor)
        request_body = {
            "conn_id": conn_id,
            "channels": read_channels(body.get("channels")),
            "info": INFO_OPTIONS,
        }
        answer = await self._server.call("POST", path, {**request_body, "channel_configs": CHANNEL_CONFIGS})
        return _newest(answer)

    async def _send(self, visitor: Visitor, body: Body) -> Any:
        """Send to a channel, or privately to one person and the sender's other windows."""
        message: Body = {"text": read_text(body.get("text"))}
        if body.get("to") is None:
            recipients: Body = {"channel": read_channels([body.get("channel")])[0]}
        else:
            message["to"] = read_name(body["to"])
            recipients = {"pm_users": sorted({visitor.name, message["to"]})}
        uuid = str(uuid4())
        self._sent[uuid] = Sent(visitor, recipients)
        item = {**recipients, "uuid": uuid, "user": visitor.name, "message": message}
        answer = await self._server.call("POST", "/message", [item])
        if "to" in message:
            self._private.add(answer[0], self._readers(visitor, message["to"]))
        return answer

    async def _typing(self, visitor: Visitor, body: Body) -> Any:
        """Show to the others that the visitor is typing: a message that no history keeps."""
        if body.get("to") is None:
            recipients: Body = {
                "channel": read_channels([body.get("channel")])[0],
                "exclude_users": [visitor.name],
            }
        else:
            recipients = {"pm_users": [read_name(body["to"])]}
        item = {**recipients, "user": visitor.name, "message": {"typing": True}, "no_history": True}
        return await self._server.call("POST", "/message", [item])

    async def _edit(self, visitor: Visitor, body: Body) -> Any:
        item = self._own_message(visitor, body)
        to = [name for name in item.get("pm_users", []) if name != visitor.name]
        item["message"] = {"text": read_text(body.get("text")), **({"to": to[0]} if to else {})}
        answer = await self._server.call("PATCH", "/message", [item])
        self._private.amend(answer[0])
        return answer

    async def _delete(self, visitor: Visitor, body: Body) -> Any:
        item = self._own_message(visitor, body)
        answer = await self._server.call("DELETE", "/message", [item])
        self._private.remove(item["uuid"])
        return answer

    async def _set_status(self, visitor: Visitor, body: Body) -> Any:
        state = {"user": visitor.name, "user_state": {"status": read_status(body.get("status"))}}
        return await self._server.call("POST", "/user_state", state)

    async def _info(self, visitor: Visitor, body: Body) -> Any:
        """Return history and users of channels, for a browser that missed events."""
        return _newest(await self._info_of(read_channels(body.get("channels"))))

    async def _older(self, visitor: Visitor, body: Body) -> Any:
        """Return the messages of a channel before the oldest one that the page has; none if that is no longer kept."""
        channel = read_channels([body.get("channel")])[0]
        described = (await self._info_of([channel]))["channels"].get(channel, {"history": []})
        history = described["history"]
        at = next((at for at, event in enumerate(history) if event["uuid"] == body.get("before")), 0)
        return {"history": history[max(0, at - PAGE_MESSAGES) : at]}

    async def _info_of(self, channels: list[str]) -> Any:
        return await self._server.call("POST", "/info", {"info": {"channels": channels, **INFO_OPTIONS}})

    def _readers(self, author: Visitor, to: str) -> frozenset[Visitor]:
        holder = self._visitors.holder(to)
        return frozenset({author, holder} if holder else {author})

    def _check_owner(self, conn_id: Any, visitor: Visitor) -> str:
        if not isinstance(conn_id, str) or self._connections.get(conn_id) != visitor:
            raise Refused(409, "This connection is over. Please connect again.")
        return conn_id

    def _own_message(self, visitor: Visitor, body: Body) -> Body:
        sent = self._sent.get(str(body.get("uuid")))
        if sent is None or sent.author != visitor:
            raise Refused(403, "Only its author can change a message.")
        return {**sent.recipients, "user": visitor.name, "uuid": body["uuid"]}

    def _signed_in(self, action: Action) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            visitor = self._visitors.signed_in(request)
            return JSONResponse(await action(visitor, await read_json(request)))

        return endpoint


def _newest(answer: Any) -> Any:
    """Leave in an answer of the push server the newest messages of each channel."""
    described = answer.get("channels_info", answer).get("channels", {})
    for channel in described.values() if isinstance(described, dict) else ():
        channel["history"] = channel["history"][-PAGE_MESSAGES:]
    return answer


def _connect_body(visitor: Visitor, channels: list[str], since: str) -> Body:
    """Return the body of /connect. `fresh_user_state` keeps a status that was set in another window."""
    return {
        "username": visitor.name,
        "conn_id": str(uuid4()),
        "channels": channels,
        "fresh_user_state": {"status": STATUSES[0]},
        "state_public_keys": ["status"],
        "channel_configs": CHANNEL_CONFIGS,
        "info": INFO_OPTIONS,
        "since": since,
    }
