"""A protocol that is unlike this server's own, to prove what a further one takes: its wire side, and its entrance.

It has a greeting, one frame for each event, answers to pings, a subscribe command that is answered and then delivers,
errors, a state for each client (after three faults it ends the stream), and close codes of its own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.transports.registering import Registering

from channelstream.apps.grants import EVERYTHING, Grants
from channelstream.apps.keys import name_of
from channelstream.close_codes import CloseCode
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Message
from channelstream.errors import ChannelstreamError, Unauthorized
from channelstream.transports.entrances import OpeningRequest
from channelstream.transports.routes import ENTRANCES
from channelstream.wire.client_commands import Action, ClientCommand, Fail, Outcome, Reply, Subscribe
from channelstream.wire.client_session import LineRules, WireProtocol
from channelstream.wire.frames import close_frame
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS, Protocols, own_protocols

PATH = "/second/"
SECOND = ClientProtocol("second", PresenceAudience.IF_ANNOUNCED)
FAULTS = 3
CLOSE_CODES = {
    CloseCode.RESTARTING: 4200,
    CloseCode.POLICY_VIOLATION: 4005,
    CloseCode.UNKNOWN_CONNECTION: 4001,
}


def frame(**fields: Any) -> bytes:
    return Framing.WEBSOCKET.enclose(json.dumps(fields).encode())


# -- the wire side


@dataclass(frozen=True)
class SecondFormat:
    """One frame for each message; nothing else is sent."""

    number: int
    form: int
    name: str = "WebSocket"

    def item(self, entry: Entry) -> bytes | None:
        return entry.item(self.form, _item)

    def enclose(self, items: Sequence[bytes], position: str | None) -> bytes:
        return b"".join(items)


def _item(entry: Entry) -> bytes | None:
    event = entry.event
    if not isinstance(event, Message) or event.channel is None:
        return None
    return frame(event="message", channel=name_of(event.channel), data=json.loads(event.payload))


class SecondSession:
    """The session of one stream, which counts the client's faults."""

    heartbeat = b""
    rules = LineRules()
    state = b""

    def __init__(self, format_: SecondFormat) -> None:
        self.format = format_
        self._faults = 0

    def opened(self, conn_id: str) -> bytes:
        return frame(event="welcome")

    def resumed(self, position: str, recovered: Sequence[str], lost: Sequence[str]) -> bytes:
        return b""

    def catchup_item(self, entry: Entry) -> bytes | None:
        return self.format.item(entry)

    def closing(self, code: int | None, reason: str) -> bytes:
        return closing_frame(code, reason)

    def receive(self, text: bytes | bytearray) -> Iterator[ClientCommand]:
        try:
            asked = json.loads(text)
        except ValueError:
            asked = None
        for each in asked if isinstance(asked, list) else [asked]:
            yield from self._command(each if isinstance(each, dict) else {})

    def _command(self, asked: dict[str, Any]) -> Iterator[ClientCommand]:
        match asked.get("do"), asked.get("channel"):
            case "ping", _:
                yield Reply(frame(event="pong", id=asked.get("id")))
            case "subscribe", str(channel) if 0 < len(channel) <= 64:
                yield Subscribe((channel,), str(asked.get("id")))
            case _:
                self._faults += 1
                yield Reply(frame(event="error", reason="not understood"))
                if self._faults == FAULTS:
                    yield Fail(CloseCode.POLICY_VIOLATION, "too many faults")

    def reply(self, command: Action, outcome: Outcome) -> bytes:
        if isinstance(outcome, ChannelstreamError):
            return frame(event="error", reason=outcome.message, id=command.ref)
        return frame(event="subscribed", joined=outcome.joined, id=command.ref)

    def joined(self, writes: Sequence[bytes]) -> bytes:
        return b"".join(writes)


def closing_frame(code: int | None, reason: str) -> bytes:
    return close_frame(CLOSE_CODES.get(CloseCode(code), code) if code else code, reason)


def second_protocol() -> WireProtocol:
    format_ = SecondFormat(len(PROTOCOLS.formats), 1 + max(each.form for each in PROTOCOLS.formats))
    return WireProtocol(
        SECOND,
        "second",
        {Framing.WEBSOCKET: format_},
        lambda _, start: SecondSession(format_),
        format_.item,
        closing=closing_frame,
        resumes=False,
        grants=Grants(subscribe=EVERYTHING),
    )


BOTH_TABLES = Protocols([*own_protocols(), second_protocol()])
"""This server's own protocols and the second one."""


# -- the entrance


class ByName(Registering):
    """`/second/NAME`: the connection is that of the user NAME."""

    paths = (PATH + "{user}",)
    protocol = SECOND

    def user_of(self, request: OpeningRequest) -> str:
        user = request.head.path.removeprefix(PATH)
        if user == "stranger":
            raise Unauthorized("Strangers are not welcome.")
        return user


ALL_ENTRANCES = (*ENTRANCES, ByName)
