"""Which channels a client of Pusher may subscribe to, and as whom, by the signatures of its application that it shows."""

from typing import NamedTuple

from channelstream.apps.pusher_app import PusherApp
from channelstream.core.pusher_names import (
    KEEP_LAST_S,
    OF_USER,
    has_members,
    is_channel_name,
    keeps_last,
    needs_signature,
)
from channelstream.core.pusher_signing import channel_text, is_granted
from channelstream.errors import ChannelstreamError, Invalid, TooManyRequests
from channelstream.wire.client_commands import Join
from channelstream.wire.pusher_members import state_of
from channelstream.wire.pusher_texts import MAX_INFO_BYTES, Fields, Identity, is_absent, member_in, text_in


class Refusal(NamedTuple):
    """Why a client may not subscribe."""

    kind: str
    message: str
    status: int


def _unsigned(message: str) -> Refusal:
    return Refusal("AuthError", message, 401)


class Subscriber(NamedTuple):
    """A client that asks for what its application must have signed.

    Attributes:
        socket_id: names the client's line in signatures.
        user: as whom it has signed in; None if it has not.
    """

    app: PusherApp
    socket_id: str
    user: Identity | None

    def shows(self, text: str, fields: Fields) -> bool:
        """Whether it shows a signature of this text."""
        return is_granted(self.app.key, self.app.secrets.accepted, text, text_in(fields, "auth") or "")

    def admitted(self, channel: str, fields: Fields) -> Join | Refusal:
        """Return what joins a channel, if the client may join it."""
        if not is_channel_name(channel) and not self._is_own(channel):
            return Refusal("InvalidChannel", "There can be no channel of this name.", 400)
        member = self._signed(channel, fields) if needs_signature(channel) else None
        if isinstance(member, Refusal):
            return member
        name, last_s = self.app.channel(channel), KEEP_LAST_S if keeps_last(channel) else 0.0
        if member is None:
            may_enter = needs_signature(channel) or self._is_own(channel)
            return Join(name, channel, last_s=last_s, is_granted=may_enter)
        return Join(name, channel, member.name, state_of(member.info.decode()), last_s, is_granted=True)

    def _is_own(self, channel: str) -> bool:
        """Whether it is the channel of the user that the client is."""
        return self.user is not None and channel == OF_USER + self.user.name

    def _signed(self, channel: str, fields: Fields) -> Identity | Refusal | None:
        """Return as which member it may join a channel, None for none, by the signature that it shows."""
        data = None if is_absent(fields, "channel_data") else text_in(fields, "channel_data")
        if data is None and not is_absent(fields, "channel_data"):
            return _unsigned("channel_data is not text.")
        if not self.shows(channel_text(self.socket_id, channel, data), fields):
            return _unsigned("The signature is not that of this channel, socket and key.")
        if not has_members(channel):
            return None
        member = self.user if data is None else member_in(data)
        if member is None:
            return _unsigned("A presence channel needs channel_data, or a user who has signed in.")
        if isinstance(member, str):
            return _unsigned(member)
        if len(member.info) > MAX_INFO_BYTES:
            return _unsigned(f"user_info has more than {MAX_INFO_BYTES} bytes.")
        return member


def limit_of(error: ChannelstreamError) -> Refusal:
    """Return why a client that may subscribe cannot: it, or its application, is in too many channels."""
    if isinstance(error, Invalid | TooManyRequests):
        return Refusal("LimitReached", error.message, 400)
    return Refusal("ServerError", error.message, error.http_status)
