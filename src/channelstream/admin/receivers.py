"""The receivers of an application's webhooks, as all nodes know them, and the events that were given up."""

from collections import Counter
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from channelstream.admin.shared_reading import SharedReading
from channelstream.apps.keys import name_of
from channelstream.apps.webhooks import TYPES, Receiver
from channelstream.core.facts import ChannelFact, Fact, kind_of
from channelstream.core.timestamps import stamp
from channelstream.integrations.webhooks.calling import Figures
from channelstream.integrations.webhooks.dead_letters import KEPT_S, DeadLetter
from channelstream.integrations.webhooks.refused import RefusalSummary
from channelstream.integrations.webhooks.webhooks import Webhooks
from channelstream.service import Record, Service

PROCEDURE = "webhooks of application {}"
GIVE_UP = "webhooks that are refused, of application {}"
"""Calls the node that sends, with the id of a receiver, to give up what this receiver refuses."""
SENT_AGAIN = "webhooks sent again of application {}"
"""The series with the ids of dead letters that an admin had sent again."""
LETTERS = 500
"""Most ids of dead letters in a request, and most that were sent again and are marked so."""


class RefusedEvent(Struct, frozen=True):
    """An event that a receiver refuses alone.

    Attributes:
        type: its name in bodies.
        channel: its name; None if it is about none.
        user: likewise.
        since_s: when it was refused first, in epoch seconds.
        reason: why it was refused last.
        behind: how many events of its channel or user wait for it.
    """

    type: str
    channel: str | None
    user: str | None
    since_s: float
    reason: str
    behind: int


class ReceiverFigures(Struct, frozen=True):
    """What one node knows about a receiver.

    Attributes:
        name: the receiver's.
        open: how many events it is being sent; None if another node sends.
        refused: how many of them it refuses alone.
        held_up: others wait for these.
        shown: the oldest of these.
    """

    name: str
    figures: Figures
    open: int | None = None
    refused: int = 0
    held_up: bool = False
    shown: tuple[RefusedEvent, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[ReceiverFigures]).decode
_decode_count = msgspec.msgpack.Decoder(int).decode


class Receivers:
    """The receivers of one application, and its dead letters."""

    def __init__(self, service: Service, webhooks: Webhooks) -> None:
        """Answer the other nodes from now on."""
        self._service = service
        self._webhooks = webhooks
        self._app_id = service.app.id
        self._own = [each for each in webhooks.receivers.values() if each.app_id == self._app_id]
        self._reading = SharedReading(self._read, service.clock.steady)
        self._procedure = PROCEDURE.format(self._app_id)
        service.node.remote_calls.register(self._procedure, self._answer)
        self._give_up_procedure = GIVE_UP.format(self._app_id)
        service.node.remote_calls.register(self._give_up_procedure, self._give_up_here)

    async def read(self) -> dict[str, Any]:
        """Describe the receivers, and the dead letters, newest first.

        Raises:
            Unavailable: the engine is out of reach.
        """
        return await self._reading.get()

    async def send_again(self, ids: Collection[str]) -> dict[str, int]:
        """Send dead letters again; return how many, by the labels of their receivers.

        Raises:
            Unavailable: the engine is out of reach; some of them may be sent.
        """
        letters = await self._webhooks.dead_letters.read(self._app_id)
        chosen = [each for each in letters if id_of(each) in ids and self._can_be_sent(each)]
        await self._webhooks.send_again(chosen)
        now_s, series = self._service.clock.wall(), self._service.node.time_series
        for each in chosen:
            record = Record(now_s, id_of(each).encode())
            await series.append(SENT_AGAIN.format(self._app_id), record, KEPT_S)
        return Counter(self._label(each.receiver) for each in chosen)

    async def give_up_refused(self, receiver_id: str) -> dict[str, int]:
        """Give up what a receiver refuses alone; return how many events, by the label of the receiver.

        Raises:
            Unavailable: the engine is out of reach.
        """
        label = next((each.label for each in self._own if receiver_id_of(each) == receiver_id), None)
        if label is None:
            return {}
        results = await self._service.node.remote_calls.call_all(
            self._give_up_procedure, receiver_id.encode()
        )
        count = sum(result.read(_decode_count) or 0 for result in results)
        return {label: count} if count else {}

    async def _give_up_here(self, argument: bytes) -> bytes:
        chosen = (each for each in self._own if receiver_id_of(each).encode() == argument)
        return _encode(sum(map(self._webhooks.give_up_refused, chosen)))

    async def _answer(self, argument: bytes) -> bytes:
        figures, count, refusals = self._webhooks.figures, self._webhooks.open, self._webhooks.refusals
        return _encode(
            [
                _figures(
                    each.name,
                    figures[each.name],
                    count.get(each.name),
                    refusals.get(each.name, RefusalSummary()),
                )
                for each in self._own
            ]
        )

    async def _read(self) -> dict[str, Any]:
        known: dict[str, list[ReceiverFigures]] = {each.name: [] for each in self._own}
        sender = None
        for result in await self._service.node.remote_calls.call_all(self._procedure):
            for each in result.read(_decode) or ():
                if each.name in known:
                    known[each.name].append(each)
                if each.open is not None:
                    sender = result.label
        oldest_ms = await self._webhooks.oldest_ms(self._own)
        return {
            "sender": sender,
            "receivers": [_row(each, known[each.name], oldest_ms.get(each.name)) for each in self._own],
            "refused": [row for each in self._own for row in _refused_rows(each, known[each.name])],
            "letters": await self._letters(),
        }

    async def _letters(self) -> list[dict[str, Any]]:
        letters = await self._webhooks.dead_letters.read(self._app_id)
        since_s, series = self._service.clock.wall() - KEPT_S, self._service.node.time_series
        records = await series.read(SENT_AGAIN.format(self._app_id), since_s, LETTERS)
        again_s = {record.data.decode(): record.at_s for record in records}
        return [self._letter_row(each, again_s.get(id_of(each), 0.0)) for each in reversed(letters)]

    def _letter_row(self, letter: DeadLetter, again_s: float) -> dict[str, Any]:
        fact = letter.fact
        return {
            "id": id_of(letter),
            "at": stamp(letter.at_s),
            "happened": stamp(fact.at_ms / 1000),
            "receiver": self._label(letter.receiver),
            "reason": letter.reason,
            "type": TYPES[kind_of(fact)],
            "channel": _channel_of(fact),
            "user": _user_of(fact),
            "can_be_sent": self._can_be_sent(letter),
            "sent_again": _time(again_s),
        }

    def _can_be_sent(self, letter: DeadLetter) -> bool:
        return letter.is_whole and letter.receiver in self._webhooks.receivers

    def _label(self, name: str) -> str:
        """Return the label of a receiver by its name; one that is no more has none, since its URL may have a secret."""
        receiver = self._webhooks.receivers.get(name)
        return receiver.label if receiver else ""


def id_of(letter: DeadLetter) -> str:
    """Return what names a dead letter."""
    text = f"{letter.receiver}\n{letter.fact.id}\n{letter.at_s}"
    return sha256(text.encode()).hexdigest()[:32]


def receiver_id_of(receiver: Receiver) -> str:
    """Return what names a receiver to a page, since its URL may have a secret."""
    return sha256(receiver.name.encode()).hexdigest()[:32]


def _channel_of(fact: Fact) -> str | None:
    return name_of(fact.channel) if isinstance(fact, ChannelFact) else None


def _user_of(fact: Fact) -> str | None:
    user = getattr(fact, "user", None)
    return name_of(user) if user else None


def _figures(name: str, figures: Figures, count: int | None, refusals: RefusalSummary) -> ReceiverFigures:
    shown = tuple(
        RefusedEvent(
            TYPES[kind_of(each.fact)],
            _channel_of(each.fact),
            _user_of(each.fact),
            each.since_s,
            each.reason,
            each.behind,
        )
        for each in refusals.shown
    )
    return ReceiverFigures(name, figures, count, refusals.count, refusals.is_held_up, shown)


def _refused_rows(receiver: Receiver, known: Iterable[ReceiverFigures]) -> list[dict[str, Any]]:
    """Describe the events that a receiver refuses alone, the oldest first."""
    return [
        {
            "receiver": receiver.label,
            "type": event.type,
            "channel": event.channel,
            "user": event.user,
            "since": stamp(event.since_s),
            "reason": event.reason,
            "behind": event.behind,
        }
        for each in known
        for event in each.shown
    ]


def _row(receiver: Receiver, known: Iterable[ReceiverFigures], oldest_ms: int | None) -> dict[str, Any]:
    """Describe a receiver: what waits for it is known to the node that sends, the rest is that of all nodes."""
    figures = [each.figures for each in known]
    sender = next((each for each in known if each.open is not None), None)
    pending = sender.open if sender else None
    if pending == 0:
        oldest_ms = None  # The cursors are kept once a second.
    last_failed = max(figures, key=lambda each: each.error_s, default=Figures())
    return {
        "id": receiver_id_of(receiver),
        "receiver": receiver.label,
        "format": "pusher" if receiver.pusher else "standard",
        "pending": pending,
        "refused": sender.refused if sender else 0,
        "held_up": sender.held_up if sender else False,
        "oldest": _time(oldest_ms / 1000 if oldest_ms else 0.0),
        "sent": sum(each.sent for each in figures),
        "failed": sum(each.failed for each in figures),
        "given_up": sum(each.given_up for each in figures),
        "last_success": _time(max((each.accepted_s for each in figures), default=0.0)),
        "last_error": last_failed.error,
        "last_error_at": _time(last_failed.error_s),
        "failing_since": _time(sender.figures.failing_since_s if sender else 0.0),
    }


def _time(at_s: float) -> str | None:
    """Return a time for people; None for 0, which means never."""
    return stamp(at_s) if at_s else None
