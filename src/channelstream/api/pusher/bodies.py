"""The bodies of this API, and what they may be: first their shape (400), then the size of their data (413).

The names of the fields and the bounds are those of Pusher's HTTP API, which answers 413 where data is too long. Only that:
its SDKs call 413 a payload of more than 10 KB (Ruby), or repeat a call that is answered so (Java).
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.api.fields import MISSING, NULL_IS_ABSENT
from channelstream.api.pusher.attributes import Attribute, read_attributes
from channelstream.api.validation import decode
from channelstream.api.walker import Walker
from channelstream.core.pusher_names import is_channel_name, is_of_user
from channelstream.core.pusher_signing import is_socket_id
from channelstream.errors import BadShape, Invalid, TooLong
from channelstream.faults import Faults
from channelstream.wire.pusher_payload import MAX_DATA_BYTES, MAX_NAME, RESERVED

MAX_CHANNELS = 100
"""Most channels of one event."""
MAX_BATCH = 10
"""Most events of a batch."""
CHANNEL_FORM = "Not a name of a channel: 1 to 200 letters, digits and signs of _-=@,.;"
_RESERVED = f"Names that begin with {' or '.join(RESERVED)} are those of the protocol."

_Name = Annotated[
    str, Meta(min_length=1, max_length=MAX_NAME, description="Name of the event.", examples=["created"])
]
_Data = Annotated[
    str, Meta(description="A text of at most 10,240 bytes, which often is JSON.", examples=['{"id": 7}'])
]
_SocketId = Annotated[
    str,
    Meta(description="This connection does not receive the event.", examples=["48213.90817263"]),
    NULL_IS_ABSENT,
]
_Info = Annotated[
    str,
    Meta(description="What the answer has about the channels.", examples=["subscription_count"]),
    NULL_IS_ABSENT,
]
_Channels = Annotated[
    list[str],
    Meta(max_length=MAX_CHANNELS, description="The channels.", examples=[["orders"]]),
    NULL_IS_ABSENT,
]
_Channel = Annotated[str, Meta(description="The channel.", examples=["orders"]), NULL_IS_ABSENT]


class BatchItem(Struct, kw_only=True):
    """An event for one channel."""

    name: _Name
    data: _Data
    channel: Annotated[str, Meta(description="The channel.", examples=["orders"])]
    socket_id: _SocketId | UnsetType = UNSET
    info: _Info | UnsetType = UNSET


class EventBody(Struct, kw_only=True):
    """An event for one or more channels."""

    name: _Name
    data: _Data
    channels: _Channels | UnsetType = UNSET
    channel: _Channel | UnsetType = UNSET
    socket_id: _SocketId | UnsetType = UNSET
    info: _Info | UnsetType = UNSET

    def items(self) -> Iterable[BatchItem]:
        """Return the event for each of its channels, once."""
        named = dict.fromkeys(self.channels or [self.channel or ""])
        return [
            BatchItem(
                name=self.name, data=self.data, channel=channel, socket_id=self.socket_id, info=self.info
            )
            for channel in named
        ]


class BatchBody(Struct, kw_only=True):
    """Several events, which are sent all or not at all."""

    batch: Annotated[list[BatchItem], Meta(min_length=1, max_length=MAX_BATCH, description="The events.")]


class Nothing(Struct):
    """The body of a call that takes no fields."""


T = TypeVar("T", bound=Struct)


async def read_body(body: bytes, schema: type[T], walker: Walker) -> T:
    """Read a body.

    Raises:
        Malformed: it is not JSON, or nests too deep.
        BadShape: it breaks the schema.
    """
    try:
        return await decode(body, schema, walker)
    except Invalid as error:
        raise BadShape(error.faults) from error


def read_event(body: EventBody) -> list[BatchItem]:
    """Return an event for each of its channels.

    Raises:
        BadShape: it has no channel, or another fault of its shape.
        TooLong: its data is.
    """
    if not (body.channels or body.channel):
        raise BadShape({"channels": [MISSING]})
    items = list(body.items())
    faults = _faults(items[0])
    if any(not _is_receiver(item.channel) for item in items):
        faults["channels"] = [CHANNEL_FORM]
    _refuse(faults)
    _check_data(items[:1])
    return items


def read_batch(items: Sequence[BatchItem]) -> None:
    """Check the events of a batch.

    Raises:
        BadShape: one has a fault of its shape.
        TooLong: the data of one is.
    """
    _refuse({"batch": faults} if (faults := dict(_faults_of_each(items))) else {})
    _check_data(items)


def _faults_of_each(items: Sequence[BatchItem]) -> Iterable[tuple[str, Faults]]:
    for number, item in enumerate(items):
        faults = _faults(item)
        if not _is_receiver(item.channel):
            faults["channel"] = [CHANNEL_FORM]
        if faults:
            yield str(number), faults


def _faults(item: BatchItem) -> Faults:
    """Return the faults of an event besides those of its channel."""
    faults: Faults = {}
    if item.name.startswith(RESERVED):
        faults["name"] = [_RESERVED]
    if item.socket_id is not UNSET and not is_socket_id(item.socket_id):
        faults["socket_id"] = ["Not a socket id: digits, a dot and digits."]
    if item.info is not UNSET:
        try:
            read_attributes(item.info, (Attribute.USERS, Attribute.SUBSCRIPTIONS))
        except BadShape as error:
            faults |= error.faults
    return faults


def _is_receiver(channel: str) -> bool:
    """Whether events may be sent to a channel of this name."""
    return is_channel_name(channel) or is_of_user(channel)


def _refuse(faults: Faults) -> None:
    if faults:
        raise BadShape(faults)


def _check_data(items: Sequence[BatchItem]) -> None:
    for item in items:
        if len(item.data) > MAX_DATA_BYTES or len(item.data.encode()) > MAX_DATA_BYTES:
            raise TooLong(f"Send an event with data of at most {MAX_DATA_BYTES} bytes.")
