"""`Acting`: a client that acts for itself with a token of its application (docs/tokens.md of the server)."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self
from uuid import uuid4

import httpx

from channelstream_client.calls import encode
from channelstream_client.errors import (
    BadAnswer,
    BadSignature,
    ChannelstreamError,
    CommandRefused,
    StreamClosed,
    Unreachable,
)
from channelstream_client.events import Event, read_event
from channelstream_client.exchange import Answer, result_of
from channelstream_client.http_clients import Slots
from channelstream_client.listening import Iteration
from channelstream_client.model import Channels
from channelstream_client.names import listed
from channelstream_client.protocol import Item, are_items
from channelstream_client.pump import conn_id_of
from channelstream_client.reach import Reach, Verify, checked_address, tls_context
from channelstream_client.reading import read
from channelstream_client.resuming import OPEN_TIMEOUT_S, SILENCE_S, Down, Limits, ResumingClient
from channelstream_client.streams import TRANSPORTS, Stream

EXPIRING_S = 25.0
"""How long before its token expires a client asks for a fresh one. One that expires sooner is used for half of its time."""
REFRESH_S = 1.0
"""Least time for which a token is used: an application may give the same one again until it expires."""
COMMANDS_AT_ONCE = 50
"""Most commands that are sent at once. The stream has its connections from the same pool, of 100."""
CHANNELS = 100
"""Most channels in one command."""
RETRY_S = 1
"""After how many seconds a command is sent again that the server has not answered, or whose connection it has given up."""

logger = logging.getLogger("channelstream_client")

GetToken = Callable[[], Awaitable[str]]


class Acting(Iteration[Event]):
    """The events of a client with a token, as an asynchronous iterator, and its commands.

    `async with` opens the stream, and closes it; it is reopened after every interruption, in the channels that were
    subscribed to. The first event, and the first after each interruption, is a `Resumed`. An object belongs to one loop.
    """

    def __init__(
        self,
        url: str,
        get_token: GetToken,
        *,
        on_down: Callable[[Down], object] | None = None,
        attempts: int | None = None,
        give_up_after_s: float | None = None,
        silence_s: float = SILENCE_S,
        verify: Verify = True,
        transports: Sequence[Stream] = TRANSPORTS,
    ) -> None:
        """Create the client. Its stream opens with `async with`, or when the first event is requested.

        Args:
            url: the server's address.
            get_token: returns a token: the first one, and a fresh one before it expires or when it is refused.
            on_down, attempts, give_up_after_s, silence_s: see `AsyncChannelstream.listen`.
            verify: how certificates are verified.
            transports: the transports to use, best first.

        Raises:
            ValueError: `url` is not an http:// or https:// address.
        """
        limits = Limits(attempts=attempts, give_up_after_s=give_up_after_s, silence_s=silence_s)
        client = ResumingClient(
            checked_address(url), "", transports, random.random, uses_tokens=True, limits=limits
        )
        self._reach = Reach(lambda: tls_context(url, verify))
        self._get_token = get_token
        # The channels, each with the position from which it is still to be read; None once it is joined.
        self._wanted: dict[str, str | None] = {}
        self._unanswered: set[tuple[str, str]] = set()  # Commands by channel that the server may still take.
        self._is_connected = asyncio.Event()
        self._moving = asyncio.Lock()  # While channels are joined or left: requests arrive in any order.
        self._slots = Slots(COMMANDS_AT_ONCE, OPEN_TIMEOUT_S)
        self._tasks: set[asyncio.Task[None]] = set()
        self._refresh: asyncio.Task[None] | None = None
        super().__init__(
            client,
            self._reach,
            read_event,
            renew=get_token,
            on_down=on_down,
            renew_timeout_s=silence_s,
            control=self._take,
        )

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def aclose(self) -> None:
        for task in (*self._tasks, *filter(None, [self._refresh])):
            task.cancel()
        await super().aclose()

    # -- commands

    async def subscribe(self, channels: Iterable[str], since: Mapping[str, str] | None = None) -> list[str]:
        """Join channels; return all of the connection.

        Args:
            channels: at most 100.
            since: positions from which some of them are read; the others from now on. A `Resumed` names those of which
                something is lost.
        """
        wanted = listed("channels", channels)
        async with self._moving:
            while True:
                await self._connected()  # A new connection says from where its channels are to be read.
                conn_id = self._client.conn_id
                left = {name: position for name in wanted if (position := self._wanted.get(name))}
                result = await self._join(wanted, left | dict(since or {}))
                if self._client.conn_id == conn_id:  # Else another connection has to join them.
                    self._wanted |= dict.fromkeys(wanted)
                    return list(result["channels"])

    async def unsubscribe(self, channels: Iterable[str]) -> list[str]:
        """Leave channels; return all of the connection."""
        wanted = listed("channels", channels)
        async with self._moving:
            for name in wanted:
                self._wanted.pop(name, None)
            return list((await self._move("unsubscribe", wanted))["channels"])

    async def publish(self, channel: str, message: Any, *, uuid: str | None = None) -> str:
        """Publish a message of the client's user; return its id. With the same id it is published once."""
        result = await self._command("publish", channel=channel, message=message, uuid=uuid or str(uuid4()))
        return str(result["uuid"])

    async def set_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Change the state of the client's user; return what has changed. None removes a key."""
        return dict((await self._command("state", user_state=state))["changed"])

    async def info(self, channels: Iterable[str]) -> Channels:
        """Return histories and users of channels, as far as the token grants them."""
        return read(Channels, await self._command("info", channels=listed("channels", channels)))

    async def _join(self, channels: list[str], since: Mapping[str, str]) -> Any:
        """Join channels; return the result. An event says of which of them something since then is lost."""
        result = await self._move("subscribe", channels, since=since)
        if result.get("lost"):
            self._pass_on({"type": "resumed"} | result)
        return result

    async def _move(self, kind: str, channels: list[str], **fields: Any) -> Any:
        """Join or leave channels; return the result.

        A request that was given up may arrive after this one, and undo it: then the client takes another connection.
        """
        try:
            result = await self._command(kind, channels=channels, **fields)
        except (Unreachable, asyncio.CancelledError):
            self._unanswered.update((kind, name) for name in channels)
            raise
        if any(other != kind and name in channels for other, name in self._unanswered):
            self._pump.renew()
        return result

    async def _command(self, kind: str, **fields: Any) -> Any:
        """Send a command; return its result.

        Raises:
            CommandRefused: the server refused it, or has given up the connection or the token.
            Refused: it refused the request, or a proxy did.
            Unreachable: there was no answer; it may have taken effect.
            BadAnswer: the answer is not that of a channelstream server.
            StreamClosed: the stream has ended.
            TypeError, ValueError: one of its values has no JSON form.
        """
        *others, reply = await self._post([{"id": 1, "type": kind} | fields])
        for item in others:  # A fresh token may take channels away: an event says so before the reply.
            if not self._take(item):
                self._pass_on(item)
        match reply:
            case {"error": {"code": code, "message": message} as error}:
                raise CommandRefused(str(code), str(message), error.get("retry_after"))
            case {"result": dict(result)}:
                return result
        raise BadAnswer(f"expected the reply to a command, got {reply!r:.80}")

    def _pass_on(self, item: Item) -> None:
        """Give the reader an event that came with the answer to a command, so without a position."""
        self._inbox.put([(read_event(item), "")], 0)

    @property
    def _may_send(self) -> bool:
        """Whether there is a connection, and a token that has not expired."""
        return bool(self._client.conn_id and self._client.token)

    async def _connected(self) -> None:
        """Wait for a connection, and for a token in place of one that has expired; either may have ended again.

        Raises:
            StreamClosed: the stream has ended instead.
        """
        self._start()
        if not self._may_send:
            self._is_connected.clear()
        if self._task is None:
            raise StreamClosed(1000, "closed")
        waiting = asyncio.ensure_future(self._is_connected.wait())
        try:
            await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            raise StreamClosed(1000, "closed")

    async def _post(self, commands: list[dict[str, Any]]) -> list[Item]:
        """Send commands when the stream has a connection; return the items of the answer."""
        body = encode(commands)
        client = self._client
        answer = None
        try:
            while answer is None:
                await self._connected()
                async with self._slots:
                    if not self._may_send:
                        continue  # It has ended meanwhile, and who waits for another one needs no slot.
                    conn_id = client.conn_id
                    answer = await self._reach.http.post(
                        f"{client.url}/client",
                        params={"conn_id": conn_id},
                        content=body,
                        headers={
                            "Authorization": f"Bearer {client.token}",
                            "Content-Type": "application/json",
                        },
                        timeout=OPEN_TIMEOUT_S,
                    )
        except httpx.HTTPError as error:
            raise Unreachable(f"{client.url}: {str(error) or type(error).__name__}") from error
        retry_after = answer.headers.get("retry-after", "")
        try:
            items = result_of(Answer(answer.status_code, answer.content, retry_after, time.time()))
        except BadSignature as error:  # A command has no signature.
            match error.body:
                case {"code": str(code), "error": str(message)}:
                    if code == "unknown_connection" and client.conn_id == conn_id:
                        self._pump.renew()  # Further commands wait for it, however long the stream waits to open again.
                    text = f"{message} The command was not carried out: send it again."
                    raise CommandRefused(code, text, RETRY_S) from error
            raise
        if not are_items(items) or not items:
            raise BadAnswer(f"expected a list of items, got {items!r:.80}")
        return items

    # -- what the server says besides events

    def _take(self, item: Item) -> bool:
        """Take an item that is no event; return whether it was one."""
        match item:
            case {"type": "reply", "result": {"conn_id": str(conn_id), "expires_in": int(seconds)}}:
                self._connect(conn_id)
                self._refresh_later(seconds)
            case {"type": "unsubscribed", "channels": [*channels]}:
                for name in channels:
                    self._wanted.pop(name, None)
                return False
            case {"type": "reply" | "expiring"}:
                pass
            case _:
                return False
        return True

    def _connect(self, conn_id: str) -> None:
        is_new, self._client.conn_id = conn_id != self._client.conn_id, conn_id
        self._is_connected.set()
        if not is_new:
            return
        self._unanswered.clear()
        if self._wanted:
            # Not `position`: the same poll may have the item `resumed`, which knows nothing of these channels.
            position = self._client.asked_for
            left = self._wanted
            self._wanted = {name: position if since is None else since for name, since in left.items()}
            self._run(self._join_again(conn_id))

    async def _join_again(self, conn_id: str) -> None:
        """Join the channels in which the last connection was, from where it was.

        One that the token does not grant has a whole command refused: then they are joined one by one, until it is found.
        """
        at_once = CHANNELS
        while True:
            try:
                async with self._moving:
                    left = ((name, since) for name, since in self._wanted.items() if since is not None)
                    since = dict(islice(left, at_once))
                    if not since or self._client.conn_id != conn_id:
                        return
                    await self._join(list(since), since)
            except StreamClosed:
                return
            except ChannelstreamError as error:
                wait_s = error.retry_after_s if isinstance(error, CommandRefused) else RETRY_S
                if wait_s is not None:
                    await asyncio.sleep(wait_s * random.uniform(1.0, 2.0))  # noqa: S311 - spreads the clients
                    continue
                if len(since) > 1:
                    at_once = 1
                    continue
                at_once = CHANNELS
            if self._client.conn_id != conn_id:
                return  # Another one joins all of them.
            # Also what the token does not grant: it is not asked for again.
            self._wanted |= dict.fromkeys(self._wanted.keys() & since.keys())

    def _refresh_later(self, seconds: int) -> None:
        if self._refresh is not None:
            self._refresh.cancel()
        self._refresh = asyncio.create_task(self._refresh_in(refresh_after_s(seconds)))

    async def _refresh_in(self, wait_s: float) -> None:
        """Take fresh tokens in time. Where there is none, the stream ends with 4003, and it is asked for again."""
        while True:
            await asyncio.sleep(wait_s)
            try:
                self._client.token, _ = conn_id_of(await self._get_token())
                result = await self._command("refresh", token=self._client.token)
            except Exception as error:
                logger.warning("no fresh token: %s", str(error) or type(error).__name__)
                return
            wait_s = refresh_after_s(int(result["expires_in"]))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def refresh_after_s(seconds: float) -> float:
    """Return after which time a client asks for a fresh token if its own expires in so many seconds.

    `EXPIRING_S` before it does, but not before half of its time: a client with a short token would ask without end.
    """
    return max(seconds - EXPIRING_S, seconds / 2, REFRESH_S)
