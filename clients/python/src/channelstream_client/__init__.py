"""Client of the channelstream push server.

The rule of this package: what decides does no I/O, and thin drivers do it.

Calls: `calls` (requests and answers), `signing` and `exchange` (which attempt follows) are pure; `client` drives them twice,
blocking and async.

Streams: `resuming` (which stream is opened next, from which position, and when), `reconnect` (waits and transports),
`protocol` (what streams say) and `events` (types of events) are pure. `pump` drives them, with `streams` (one stream or
poll each) and an `inbox`; `listening` and `blocking` iterate over the inbox. `acting` does so for a client with a token, and
sends its commands.

Webhooks: `webhooks` verifies those that a server sends, and is pure.

What does I/O is imported at its first use, so that a program of only the pure parts loads no HTTP library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from channelstream_client.errors import (
    BadAnswer,
    BadSignature,
    BadWebhook,
    ChannelstreamError,
    CommandRefused,
    Forbidden,
    HttpsRequired,
    Invalid,
    Malformed,
    NotFound,
    PartlySent,
    Refused,
    Replaced,
    StreamClosed,
    TooLarge,
    Unavailable,
    UnknownConnection,
    Unreachable,
)
from channelstream_client.events import (
    Event,
    MessageDeleted,
    MessageEdited,
    MessageEvent,
    OtherEvent,
    Presence,
    Resumed,
    UserStateChanged,
)
from channelstream_client.exchange import Retries
from channelstream_client.model import (
    Change,
    Channel,
    Channels,
    ChannelSettings,
    Connection,
    Info,
    Message,
    SentMessage,
    StateChange,
    Subscribed,
    Unsubscribed,
    User,
    UserState,
)
from channelstream_client.resuming import Down
from channelstream_client.webhooks import Webhook, verify_pusher_webhook, verify_webhook

if TYPE_CHECKING:
    from channelstream_client.acting import Acting
    from channelstream_client.blocking import BlockingListening
    from channelstream_client.client import AsyncChannelstream, Channelstream
    from channelstream_client.listening import Listening

__all__ = [
    "Acting",
    "AsyncChannelstream",
    "BadAnswer",
    "BadSignature",
    "BadWebhook",
    "BlockingListening",
    "Change",
    "Channel",
    "ChannelSettings",
    "Channels",
    "Channelstream",
    "ChannelstreamError",
    "CommandRefused",
    "Connection",
    "Down",
    "Event",
    "Forbidden",
    "HttpsRequired",
    "Info",
    "Invalid",
    "Listening",
    "Malformed",
    "Message",
    "MessageDeleted",
    "MessageEdited",
    "MessageEvent",
    "NotFound",
    "OtherEvent",
    "PartlySent",
    "Presence",
    "Refused",
    "Replaced",
    "Resumed",
    "Retries",
    "SentMessage",
    "StateChange",
    "StreamClosed",
    "Subscribed",
    "TooLarge",
    "Unavailable",
    "UnknownConnection",
    "Unreachable",
    "Unsubscribed",
    "User",
    "UserState",
    "UserStateChanged",
    "Webhook",
    "verify_pusher_webhook",
    "verify_webhook",
]

_LATE = {
    "Acting": "acting",
    "AsyncChannelstream": "client",
    "BlockingListening": "blocking",
    "Channelstream": "client",
    "Listening": "listening",
}
"""The modules of the names that are imported at their first use."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
