"""Details of what any node may have: a connection, and the connections of a user or in a channel.

A node describes what it has itself; the node of the page asks all of them. So a page shows the same, whichever node
answers it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from channelstream.admin import details
from channelstream.service import Service
from channelstream.service.remote_calls import NodeResult

CONNECTION = "connection of application {}"
CONNECTIONS_OF_USER = "connections of a user of application {}"
ENDINGS_OF_USER = "endings of a user of application {}"
CONNECTIONS_IN_CHANNEL = "connections in a channel of application {}"
"""The procedures; each application has its own, so that none is answered for another."""


class Elsewhere:
    """Details from all nodes, and the answers of this node to the others."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._calls = service.node.remote_calls
        self._calls.register(self._named(CONNECTION), self._describe)
        self._calls.register(self._named(CONNECTIONS_OF_USER), self._list_of_user)
        self._calls.register(self._named(ENDINGS_OF_USER), self._endings_of_user)
        self._calls.register(self._named(CONNECTIONS_IN_CHANNEL), self._list_in_channel)

    async def connection(self, conn_id: str) -> dict[str, Any] | None:
        """Describe a connection of any node, or how it has ended; None if no node knows it.

        Raises:
            Unavailable: the engine is out of reach, and this node has no such connection.
        """
        here = await details.connection(self._service, conn_id)
        if _is_open(here) or self._service.node.is_single:
            return here
        found = [(each, answer) for each, answer in await self._ask_all(CONNECTION, conn_id) if answer]
        opened = next(((each, answer) for each, answer in found if _is_open(answer)), None)
        if opened is not None:
            each, answer = opened
            return {**answer, "node": each.label}
        if not found:
            return None
        return {**found[0][1], "endings": _newest((each, answer["endings"]) for each, answer in found)}

    async def user(self, name: str) -> dict[str, Any] | None:
        """Describe a user, with the connections and endings at all nodes; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
        """
        found = await self._with_all(await details.user(self._service, name), CONNECTIONS_OF_USER, name)
        if found is None or self._service.node.is_single:
            return found
        return {**found, "endings": _newest(await self._ask_all(ENDINGS_OF_USER, name))}

    async def channel(self, name: str) -> dict[str, Any] | None:
        """Describe a channel, with the connections at all nodes; None if it is unknown.

        Raises:
            Unavailable: the engine is out of reach.
        """
        return await self._with_all(await details.channel(self._service, name), CONNECTIONS_IN_CHANNEL, name)

    async def _with_all(
        self, found: dict[str, Any] | None, procedure: str, name: str
    ) -> dict[str, Any] | None:
        """Return a description with the connections that a procedure lists at each node."""
        if found is None or self._service.node.is_single:
            return found
        rows = [row for _, answer in await self._ask_all(procedure, name) for row in answer or ()]
        return {**found, "listed_connections": rows[: details.LISTED]}

    async def _ask_all(self, procedure: str, name: str) -> list[tuple[NodeResult, Any]]:
        """Return the answers of the nodes that have one."""
        results = await self._calls.call_all(self._named(procedure), name.encode())
        return [(each, msgspec.json.decode(each.result.value)) for each in results if each.result.value]

    def _named(self, procedure: str) -> str:
        return procedure.format(self._service.app.id)

    async def _describe(self, argument: bytes) -> bytes:
        return msgspec.json.encode(await details.connection(self._service, argument.decode()))

    async def _list_of_user(self, argument: bytes) -> bytes:
        return msgspec.json.encode(details.connections_of(self._service, argument.decode()))

    async def _endings_of_user(self, argument: bytes) -> bytes:
        return msgspec.json.encode(details.endings_of_user(self._service, argument.decode()))

    async def _list_in_channel(self, argument: bytes) -> bytes:
        return msgspec.json.encode(details.connections_in(self._service, argument.decode()))


def _is_open(found: dict[str, Any] | None) -> bool:
    return found is not None and found["state"] != "closed"


def _newest(answers: Iterable[tuple[Any, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Return the newest endings of several nodes, newest first."""
    endings = [ending for _, answer in answers for ending in answer]
    return sorted(endings, key=_moment, reverse=True)[: details.ENDINGS]


def _moment(ending: dict[str, Any]) -> str:
    return str(ending["at"])
