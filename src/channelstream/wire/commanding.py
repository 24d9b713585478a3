"""The protocol of clients with a token: they send commands, and are sent events as clients of 0.7 are.

Answers are items of the stream: `{"type": "reply", "id": 1, "result": {...}}`, or with `error` in place of `result`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from channelstream.close_codes import CloseCode
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.format import Format
from channelstream.errors import TooManyRequests, TryLater
from channelstream.wire.client_commands import (
    Action,
    ClientCommand,
    Done,
    Fail,
    Joined,
    Outcome,
    Ref,
    Reply,
    Subscribed,
)
from channelstream.wire.client_session import ClientSession, LineRules, Start, WireProtocol
from channelstream.wire.command_texts import Fault, read_commands
from channelstream.wire.framing import Framing

COMMANDING = ClientProtocol("v1", PresenceAudience.IF_ANNOUNCED)
"""That of clients with a token."""
MAX_FAULTS: Final = 10
"""Faulty commands after which a stream is closed, unless the server sets another number."""
RULES: Final = LineRules(frames=100, frames_per_s=10.0)
"""Twice the pace of the JavaScript client, so that a page whose line was stuck for a ping interval is not closed."""

_encode = msgspec.json.Encoder().encode


def result_item(ref: Ref, result: Mapping[str, Any]) -> bytes:
    return _encode({"type": "reply", "id": ref, "result": result})


def error_item(ref: Ref, code: str, message: str, **more: int) -> bytes:
    return _encode({"type": "reply", "id": ref, "error": {"code": code, "message": message} | more})


def expiring_item(seconds: int) -> bytes:
    """Return what a client is sent before its token expires."""
    return _encode({"type": "expiring", "seconds": seconds})


def unsubscribed_item(channels: Sequence[str]) -> bytes:
    """Return what a client is sent when it may no longer be in channels."""
    return _encode({"type": "unsubscribed", "channels": channels, "reason": "no longer granted"})


def reply_items(ref: Ref, outcome: Outcome, format_: Format) -> list[bytes]:
    """Return the items of the answer to a command; an answer about channels has what the client has missed of them."""
    match outcome:
        case Subscribed():
            return [
                result_item(ref, _subscribed(outcome)),
                *missed_items(outcome, format_),
            ]
        case Done(result, left):
            return [*([unsubscribed_item(left)] if left else []), result_item(ref, result)]
        case TryLater():
            code = "rate_limited" if isinstance(outcome, TooManyRequests) else outcome.code
            return [error_item(ref, code, outcome.message, retry_after=outcome.retry_after_s)]
        case Joined():
            return []  # No command of this protocol joins so.
        case _:
            return [error_item(ref, outcome.code, outcome.message)]


def missed_items(outcome: Outcome, format_: Format) -> list[bytes]:
    """Return the items of what the client has missed of the channels that it has joined."""
    missed = outcome.missed if isinstance(outcome, Subscribed) else ()
    return [item for entry in missed if (item := format_.item(entry)) is not None]


def _subscribed(outcome: Subscribed) -> dict[str, Any]:
    result: dict[str, Any] = {"channels": outcome.channels, "subscribed": outcome.joined}
    if outcome.recovered or outcome.lost:
        result |= {"recovered": outcome.recovered, "lost": outcome.lost}
    return result


class CommandSession:
    """The session of one stream (`ClientSession`); what it has besides commands is that of a client of 0.7.

    Attributes:
        max_faults: faulty commands after which the stream is closed.
        greeting: items that the stream is sent before everything else.
    """

    __slots__ = ("_base", "_faults", "greeting", "max_faults")

    rules = RULES
    state = b""

    def __init__(self, base: ClientSession) -> None:
        """Create a session.

        Args:
            base: that of 0.7 on the same transport.
        """
        self._base = base
        self._faults = 0
        self.max_faults = MAX_FAULTS
        self.greeting: Sequence[bytes] = ()

    @property
    def format(self) -> Format:
        return self._base.format

    @property
    def heartbeat(self) -> bytes:
        return self._base.heartbeat

    def opened(self, _conn_id: str) -> bytes:
        """Return the answer to the command, or request, that has opened the stream."""
        return self.enclosed(*self.greeting) if self.greeting else b""

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        return self._base.resumed(position, recovered, lost)

    def catchup_item(self, entry: Entry) -> bytes | None:
        return self._base.catchup_item(entry)

    def closing(self, code: int | None, reason: str) -> bytes:
        return self._base.closing(code, reason)

    def enclosed(self, *items: bytes) -> bytes:
        """Return the bytes of one write with items that are no events."""
        return self.format.enclose(items, None)

    def receive(self, text: bytes | bytearray) -> Iterator[ClientCommand]:
        for found in read_commands(text):
            if not isinstance(found, Fault):
                yield found
                continue
            self._faults += 1
            yield Reply(self.enclosed(error_item(found.ref, found.code, found.message)))
            if self._faults > self.max_faults:
                yield Fail(CloseCode.POLICY_VIOLATION, "too many faulty commands")

    def reply(self, command: Action, outcome: Outcome) -> bytes:
        return self.enclosed(*reply_items(command.ref, outcome, self.format))

    def joined(self, writes: Sequence[bytes]) -> bytes:
        return self._base.joined(writes)


def commanding(base: WireProtocol) -> WireProtocol:
    """Return the row of this protocol.

    Args:
        base: that of 0.7, whose formats it shares.
    """

    def session(framing: Framing, start: Start) -> CommandSession:
        return CommandSession(base.session(framing, start))

    return WireProtocol(COMMANDING, "token", base.formats, session, base.text)
