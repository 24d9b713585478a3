"""Client of the channelstream push server.

The rule of this package: what the calls say (`calls`), how they are repeated (`exchange`) and what events mean
(`events`) is without I/O; `client` drives it twice, blocking and awaited. `streams` reads one stream, `pump` one after
the other, when `reconnect` says so, into an `inbox`; `listening` and `blocking` hand that out.
"""

from channelstream_client.blocking import BlockingListening
from channelstream_client.client import AsyncChannelstream, Channelstream
from channelstream_client.errors import (
    BadAnswer,
    BadSignature,
    ChannelstreamError,
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
from channelstream_client.listening import Listening
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
from channelstream_client.pump import Down

__all__ = [
    "AsyncChannelstream",
    "BadAnswer",
    "BadSignature",
    "BlockingListening",
    "Change",
    "Channel",
    "ChannelSettings",
    "Channels",
    "Channelstream",
    "ChannelstreamError",
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
]
