"""Carries out what the client of a stream asks for in its texts, in order.

The commands of one text are carried out one after the other. Until the last one is done, the stream reads no further
text: what a client sends meanwhile stays in its socket (backpressure), so the server holds one text and the two chunks
that the transport has read. A client that does not read its answers is not answered, and so not read either.

A command that changes what a stream receives runs while the stream is stalled, as one that is too slow is: events are
read from the log when the answer is written. So the answer comes before the events of a channel that was joined, and
no event of another channel is missed.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

from channelstream.transports.client_actions import ClientActions
from channelstream.transports.reading import Attached, Change
from channelstream.wire.client_commands import Action, ClientCommand, Fail, Join, Reply, Subscribe
from channelstream.wire.client_session import ClientSession


class Commanded(Attached, Protocol):
    """A stream with its connection, as the commands of its client see it (`Attachment`)."""

    @property
    def session(self) -> ClientSession: ...

    async def has_room(self) -> bool:
        """Wait until the transport has room; return whether the connection still has this stream."""

    async def change(self, make: Callable[[], Awaitable[Change]]) -> None:
        """Change what a live stream receives, and write the answer before every event that follows."""


async def carry_out(attached: Commanded, actions: ClientActions, commands: Iterable[ClientCommand]) -> None:
    """Carry out the commands of one text; stop if the stream ends."""
    for command in commands:
        # After each, so that a text with very many commands takes many loop turns.
        if not await attached.has_room():
            return
        match command:
            case Reply():
                attached.stream.write(command.data)
            case Fail():
                attached.stream.close(command.code, command.reason)
                return
            case Subscribe() | Join():
                await attached.change(partial(_change, attached, actions, command))
            case _:
                answer = await _answer(attached, actions, command)
                if answer and attached.is_current:
                    attached.stream.write(answer)


async def _change(attached: Commanded, actions: ClientActions, command: Subscribe | Join) -> Change:
    outcome = await actions.outcome(command, stalled=attached.stream, sends=True)
    answer = attached.session.reply(command, outcome)
    return Change(answer, actions.starts(outcome), actions.members_at(command, outcome))


async def _answer(attached: Commanded, actions: ClientActions, command: Action) -> bytes:
    return attached.session.reply(command, await actions.outcome(command))
