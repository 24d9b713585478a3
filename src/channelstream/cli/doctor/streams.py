"""Checks of the way to the service: each transport opens a stream as a browser does, through the proxy.

The first list of a stream is sent when it opens, so a list that does not arrive is held on the way.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

from channelstream.cli import diagnosis
from channelstream.cli.doctor.asking import REFUSED, ask, failed, read
from channelstream.cli.doctor.finding import Finding, Subject, fault
from channelstream.cli.listen import reach_of
from channelstream.close_codes import CloseCode
from channelstream.errors import RequestFailed
from channelstream_client import streams
from channelstream_client.protocol import StreamEnded, without_id
from channelstream_client.resuming import OpenStream

USER = "channelstream-doctor"
OPENING_S = 60.0
"""Longer than the first bytes may take: `first_bytes_s` ends the wait."""
_PAGE = "see docs/deployment.md, nginx"


def has_entrance(subject: Subject) -> bool:
    """Return whether clients may use the address: with `enforce_https` a node without TLS refuses them."""
    node = subject.nodes[0]
    return subject.public is not None or not subject.settings.enforce_https or node.url.startswith("https:")


async def signed_call(subject: Subject) -> Iterable[Finding]:
    """Report why no connection can be registered, without which no stream opens."""
    try:
        async with _connection(subject):
            return []
    except RequestFailed as error:
        return [failed(error, REFUSED)]


async def websocket(subject: Subject) -> Iterable[Finding]:
    return await _open(
        subject,
        streams.websocket,
        "WebSocket",
        f"pass Upgrade and Connection on to /ws at the proxy: {_PAGE}",
    )


async def event_stream(subject: Subject) -> Iterable[Finding]:
    return await _open(
        subject,
        streams.sse,
        "event stream",
        f"pass /sse on at the proxy: {_PAGE}",
        f"set proxy_buffering off for /sse at the proxy: {_PAGE}",
    )


async def long_poll(subject: Subject) -> Iterable[Finding]:
    return await _open(subject, streams.long_poll, "long poll", f"pass /listen on at the proxy: {_PAGE}")


async def _open(
    subject: Subject, stream: streams.Stream, kind: str, advice: str, advice_if_held: str = ""
) -> list[Finding]:
    where = subject.entrance.where
    try:
        async with _connection(subject) as conn_id:
            await _first_list(subject, stream, conn_id)
    except RequestFailed as error:
        return [failed(error, REFUSED)]
    except StreamEnded as ended:
        if ended.code == CloseCode.UNKNOWN_CONNECTION:
            return [
                fault(f"{where} leads to another service than {subject.nodes[0].where}", "correct the proxy")
            ]
        return [fault(f"{where} opens no {kind}: {without_id(str(ended))}", advice)]
    except TimeoutError:
        held = f"{where}: the first bytes of the {kind} do not arrive within {subject.first_bytes_s:g} s"
        return [fault(f"{held}: something on the way holds them", advice_if_held or advice)]
    return []


async def _first_list(subject: Subject, stream: streams.Stream, conn_id: str) -> None:
    """Read the first list.

    Raises:
        StreamEnded: the stream was refused.
        TimeoutError: it takes too long.
    """
    # A since that is empty makes even a poll answer at once.
    opening: OpenStream[Any] = OpenStream(
        transport=stream,
        url=subject.entrance.url,
        conn_id=conn_id,
        position="",
        timeout_s=OPENING_S,
        silence_s=OPENING_S,
    )
    reach = reach_of(subject.entrance)
    try:
        lists = cast(AsyncGenerator[str | bytes], stream(opening, reach))
        async with aclosing(lists), asyncio.timeout(subject.first_bytes_s):
            await anext(lists)
    finally:
        await reach.close()


@asynccontextmanager
async def _connection(subject: Subject) -> AsyncIterator[str]:
    """Register a connection at the first node, as an application does, and end it.

    Raises:
        RequestFailed: it was refused, or there is no answer.
    """
    node, settings = subject.nodes[0], subject.settings
    answer = await ask(node, settings, "POST", "/connect", json={"username": USER, "channels": []})
    if answer.status_code != 200:
        raise RequestFailed(diagnosis.refused(node.where, "/connect", answer))
    conn_id = read(node, "/connect", lambda: str(answer.json()["conn_id"]))
    try:
        yield conn_id
    finally:
        with suppress(RequestFailed):
            await ask(node, settings, "GET", "/disconnect", params={"conn_id": conn_id})
