"""`Panel`: all that the admin pages need from a node."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from channelstream.admin.actions import ACTIONS
from channelstream.admin.busiest import busiest
from channelstream.admin.document import Document
from channelstream.admin.elsewhere import Elsewhere
from channelstream.admin.endings import recent_endings
from channelstream.admin.history import RANGES
from channelstream.admin.key_uses import KeyTable
from channelstream.admin.listing import PageRequest
from channelstream.admin.overview import Overview
from channelstream.admin.refused import refused_requests
from channelstream.admin.sampler import Sampler
from channelstream.admin.series import SERIES, numbered
from channelstream.admin.slow import SlowClients
from channelstream.admin.slow_turns import slow_turns
from channelstream.admin.tables import Tables
from channelstream.admin.watching import Watching
from channelstream.api.call import Call, finished
from channelstream.errors import NotFound
from channelstream.http.parts import Parts, in_parts
from channelstream.http.refusals import RefusalTable
from channelstream.service import Service
from channelstream.slices import Slices
from channelstream.transports.streams import Streams

Reading = Callable[[], Awaitable[list[dict[str, Any]] | dict[str, Any]]]


class Detail(NamedTuple):
    """A kind of thing that has a page of its own: channels, users or connections.

    Attributes:
        describe: returns what the page shows, or None if there is no such thing at any node.
        table: the table that lists them.
    """

    describe: Callable[[Elsewhere, str], Awaitable[dict[str, Any] | None]]
    table: str


DETAILS = {
    "channel": Detail(Elsewhere.channel, "channels"),
    "user": Detail(Elsewhere.user, "users"),
    "connection": Detail(Elsewhere.connection, "connections"),
}


class Panel:
    """The admin's view of an application on a running node; the figures of a watching page are those of the service.

    Attributes:
        watching: the pages that watch this node, those of traces included.
        readings: by name what reads the rows of a table, or tables and figures, of all nodes. It raises `Unavailable`, or
            reads only those of this node, while the engine is out of reach.
    """

    def __init__(
        self,
        service: Service,
        streams: Streams,
        sampler: Sampler,
        refusals: RefusalTable,
        keys: KeyTable,
        shows_server: bool = True,
    ) -> None:
        """Create the view of an application.

        Args:
            shows_server: watching pages get the figures of the whole service, and not only when to ask again.
        """
        self._shows_server = shows_server
        self._elsewhere = Elsewhere(service)
        slow = SlowClients(service)
        self._overview = Overview(service.node, streams, sampler, slow)
        turns = slow_turns(service.node, sampler.loop)
        self._document = Document(service, self._overview, turns.read)
        self._service = service
        self._sampler = sampler
        self._tables = Tables(service)
        self.watching = Watching(sampler.stopped, service.clock.steady)
        self.readings: Mapping[str, Reading] = {
            "busiest": busiest(service, sampler.rates).read,
            "endings": recent_endings(service).read,
            "keys": keys.rows,
            "refused": refused_requests(service, refusals).read,
            "slow_clients": slow.read,
            "slow_turns": turns.read,
        }

    async def document(self) -> Sequence[bytes]:
        """Return the JSON of `/admin/admin.json`, in parts."""
        result = await in_parts(await self._document(), Slices(self._service.clock.steady))
        return result.parts

    async def table(self, name: str, request: PageRequest) -> dict[str, Any]:
        """Return a page of the table of this name."""
        return await self._tables.page(name, request)

    async def detail(self, kind: str, name: str) -> dict[str, Any] | None:
        """Describe a channel, user or connection. Return None if the name is unknown."""
        return await DETAILS[kind].describe(self._elsewhere, name)

    async def history(self, name: str, since_s: float) -> dict[str, Any]:
        """Return the rows of a range of the history after a time, the names of their columns, and its marks.

        Raises:
            NotFound: there is no such range.
            Unavailable: the engine is out of reach.
        """
        if name not in RANGES:
            raise NotFound(f"There is no such range; there are {', '.join(RANGES)}.")
        history = self._sampler.history
        rows = await history.read(name, since_s)
        return {
            "interval_s": RANGES[name].interval_s,
            "kept_s": RANGES[name].kept_s,
            "columns": list(SERIES),
            "groups": numbered(rows),
            "rows": rows,
            "marks": await history.marks(name),
        }

    async def act(self, action: str, body: bytes, admin: str) -> Any:
        """Do an action and return its answer: both are those of the API's call.

        Args:
            admin: the name of the admin who does it.

        Raises:
            ChannelstreamError: the body is invalid, or the action cannot be done now.
        """
        result = await finished(ACTIONS[action].call(Call.internal(self._service, body, admin)))
        return msgspec.Raw(b"".join(result.parts)) if isinstance(result, Parts) else result

    def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Yield figures, now and every second, and how many samples are new since the last ones: when a page may ask again.

        Raises:
            Unavailable: too many pages are watching, or the server stops.
        """
        known = self._sampler.count

        async def read() -> dict[str, Any]:
            nonlocal known
            new, known = self._sampler.count - known, self._sampler.count
            figures = await self._overview.read() if self._shows_server else {}
            return {"new_samples": new, **figures}

        return self.watching.watch(read)
