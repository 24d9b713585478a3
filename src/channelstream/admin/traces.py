"""Traces over all nodes: any of them starts and stops a trace at all, and merges what they have noted by time."""

from collections.abc import AsyncIterator, Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from channelstream.admin.watching import Watching
from channelstream.core.trace import MAX_OUTCOMES, Asked
from channelstream.core.trace_filter import EVERYTHING, NoteFilter
from channelstream.core.trace_merging import merge_notes, newest, oldest
from channelstream.errors import Malformed
from channelstream.service import Service
from channelstream.service.remote_calls import NodeResult
from channelstream.tracing import Tracer, TraceRow, TraceView, subject_of

START = "start a trace of application {}"
READ = "notes of a trace of application {}"
LIST = "traces of application {}"
"""The procedures; each application has its own, so that none is answered for another."""
CURSOR_CHARACTERS = 8192
"""Longest text of a cursor: more than the ids of all nodes that are asked take."""

_Number = Annotated[int, Meta(ge=0, lt=2**53)]
Cursor = Mapping[str, int]
"""The number of the last note that a reader has of each node, by its id."""
_rows = msgspec.json.Decoder(list[TraceRow]).decode


class Start(Struct, frozen=True):
    """What a node is asked to trace; 0 minutes end the trace.

    Attributes:
        asked: who asks for payloads. A node of an older version keeps none.
    """

    kind: str
    name: str
    minutes: int
    asked: Asked | None = None


class Read(Struct, frozen=True):
    """Which notes a node is asked for: the oldest or the newest after the cursor that pass the filter."""

    kind: str
    name: str
    cursor: dict[str, int]
    only: NoteFilter
    newest: bool


class _Node(NamedTuple):
    """What a node answered.

    Attributes:
        view: what it has noted, or why that is not known.
    """

    label: str
    view: TraceView | str


class Traces:
    """The traces of an application at all nodes, and the answers of this node to the others."""

    def __init__(self, service: Service, watching: Watching) -> None:
        self._app = service.app
        self._is_single = service.node.is_single
        self._watching = watching
        self._wall = service.clock.wall
        self._tracer = Tracer(service)
        self._calls = service.node.remote_calls
        answers = {START: self._answer_start, READ: self._answer_read, LIST: self._answer_list}
        for procedure, answer in answers.items():
            self._calls.register(procedure.format(self._app.id), answer)

    async def start(self, kind: str, name: str, minutes: int, payloads_for: str = "") -> None:
        """Start a trace at all nodes for so many minutes; 0 minutes end it.

        Args:
            payloads_for: the name of who asks for payloads; empty if nobody does.

        Raises:
            Invalid: the kind cannot be traced, or the time is too long.
            TooManyRequests: this node has no room for another trace.
        """
        asked = Asked(payloads_for, self._wall()) if payloads_for else None
        # Here first, since its errors are those of the caller.
        self._tracer.start(kind, name, minutes, asked)
        start = msgspec.json.encode(Start(kind, name, minutes, asked))
        await self._calls.call_reachable(START.format(self._app.id), start)

    def check(self, kind: str, name: str) -> None:
        """Check that there can be such a trace.

        Raises:
            Invalid: the kind cannot be traced.
        """
        subject_of(self._app, kind, name)

    async def read(
        self,
        kind: str,
        name: str,
        cursor: Cursor,
        only: NoteFilter = EVERYTHING,
        *,
        is_newest: bool = False,
    ) -> dict[str, Any]:
        """Return notes of all nodes after a cursor, the oldest or the newest, and the current connections of the subject.

        Args:
            only: which notes are wanted. By outcome an event is chosen after the notes of all nodes have become one.

        Raises:
            Invalid: the kind cannot be traced.
        """
        self.check(kind, name)
        asked_of_each = only if self._is_single else msgspec.structs.replace(only, outcome=None)
        asked = msgspec.json.encode(Read(kind, name, dict(cursor), asked_of_each, is_newest))
        results, failure = await self._calls.call_reachable(READ.format(self._app.id), asked)
        nodes = {self._id(each): _Node(each.label, _view(each)) for each in results}
        views = _views(nodes)
        picked = (newest if is_newest else oldest)({id_: view.notes for id_, view in views.items()})
        ends = {**cursor, **{id_: view.noted for id_, view in views.items()}}
        after = ends if is_newest else {**cursor, **{id_: note.number for id_, note in picked}}
        merged = merge_notes([(nodes[id_].label, note) for id_, note in picked])
        by_outcome = NoteFilter(outcome=only.outcome)
        return {
            "kind": kind,
            "name": name,
            **_summary(nodes),
            "notes": msgspec.to_builtins([note for note in merged if by_outcome.passes(note.fact)]),
            "next": self._cursor_text({id_: after.get(id_, 0) for id_ in nodes}),
            "end": self._cursor_text({id_: ends.get(id_, 0) for id_ in nodes}),
            "failure": failure,
        }

    def watch(self, kind: str, name: str, only: NoteFilter) -> AsyncIterator[dict[str, Any]]:
        """Yield what `read` returns with the newest notes, and then every second with those that are new.

        Raises:
            Invalid: the kind cannot be traced.
            Unavailable: too many pages are watching, or the server stops.
        """
        self.check(kind, name)
        cursor: Cursor = {}

        async def read() -> dict[str, Any]:
            nonlocal cursor
            found = await self.read(kind, name, cursor, only, is_newest=True)
            cursor = self.cursor(found["next"])
            return found

        return self._watching.watch(read)

    async def listing(self) -> list[dict[str, Any]]:
        """Return the traces of all nodes, without their notes."""
        rows: dict[tuple[str, str], TraceRow] = {}
        for each in (await self._calls.call_reachable(LIST.format(self._app.id))).results:
            for row in each.read(_rows) or ():
                known = rows.get((row.kind, row.name), TraceRow(row.kind, row.name, 0, 0))
                seconds_left, noted = max(known.seconds_left, row.seconds_left), known.noted + row.noted
                asked = known.asked or row.asked
                rows[row.kind, row.name] = TraceRow(row.kind, row.name, seconds_left, noted, asked)
        return [msgspec.to_builtins(row) for row in rows.values()]

    def cursor(self, text: str) -> Cursor:
        """Read the text of a cursor: a number for this node, or those of all nodes as JSON.

        Raises:
            Malformed: it is neither.
        """
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return {self._calls.own_id: int(text)}
        try:
            return msgspec.json.decode(text[:CURSOR_CHARACTERS], type=dict[str, _Number])
        except msgspec.MsgspecError as error:
            raise Malformed("after must be a whole number, or what `next` was.") from error

    def _cursor_text(self, cursor: Cursor) -> str:
        if cursor.keys() == {""}:
            return str(cursor[""])
        return msgspec.json.encode(cursor).decode()

    def _id(self, each: NodeResult) -> str:
        return each.node.id if each.node else self._calls.own_id

    # -- the answers of this node

    async def _answer_start(self, argument: bytes) -> bytes:
        start = msgspec.json.decode(argument, type=Start)
        self._tracer.start(start.kind, start.name, start.minutes, start.asked)
        return b""

    async def _answer_read(self, argument: bytes) -> bytes:
        asked = msgspec.json.decode(argument, type=Read)
        after = asked.cursor.get(self._calls.own_id, 0)
        return msgspec.json.encode(
            self._tracer.view(asked.kind, asked.name, after, only=asked.only, newest=asked.newest)
        )

    async def _answer_list(self, argument: bytes) -> bytes:
        return msgspec.json.encode(self._tracer.listing())


def _view(each: NodeResult) -> TraceView | str:
    """Return what a node has noted, or why that is not known."""
    if each.result.failure:
        return each.result.failure
    try:
        return msgspec.json.decode(each.result.value, type=TraceView)
    except msgspec.MsgspecError:
        return "The version of the node has other traces."


def _views(nodes: Mapping[str, _Node]) -> dict[str, TraceView]:
    """Return what is known of the nodes."""
    return {id_: node.view for id_, node in nodes.items() if isinstance(node.view, TraceView)}


def _summary(nodes: Mapping[str, _Node]) -> dict[str, Any]:
    """Describe the trace and its subject, as all nodes know them, and what each node is about."""
    views = _views(nodes)
    return {
        "seconds_left": max((view.seconds_left for view in views.values()), default=0),
        "asked": _asked(view.asked for view in views.values()),
        "noted": sum(view.noted for view in views.values()),
        "connections": [
            {**row, "node": nodes[id_].label} for id_, view in views.items() for row in view.connections
        ][:MAX_OUTCOMES],
        "nodes": [{"label": node.label, **_state(node.view)} for node in nodes.values()],
    }


def _asked(asked: Iterable[Asked | None]) -> dict[str, Any] | None:
    """Return who has asked for payloads last, by what the nodes know."""
    last = max(filter(None, asked), key=attrgetter("at_s"), default=None)
    return None if last is None else msgspec.structs.asdict(last)


def _state(view: TraceView | str) -> dict[str, Any]:
    """Say whether a node traces."""
    if isinstance(view, str):
        return {"failure": view, "seconds_left": 0, "noted": 0}
    return {"failure": "", "seconds_left": view.seconds_left, "noted": view.noted}
