"""Descriptions of channels for clients that act for themselves: of each only what is granted."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from channelstream.api.call import Call
from channelstream.api.info import channels_info
from channelstream.api.schemas import InfoOptions
from channelstream.errors import Invalid
from channelstream.http.parts import fields_of
from channelstream.service import Service

WITHOUT_MEMBERS = frozenset({"uuid", "name", "long_name", "settings", "history", "last_active", "position"})
"""What a client may see of a channel whose members it may not see."""
LONGEST_BYTES = 4 << 20
"""Longest description of channels: a few bytes ask for it, and the socket of a client that reads nothing keeps it."""

_fields = msgspec.json.Decoder(dict[str, Raw]).decode


async def client_info(service: Service, histories: Sequence[str], members: Sequence[str]) -> dict[str, Any]:
    """Describe channels as `channels_info` does, with the public part of states only.

    Args:
        service: of the client's application.
        histories: channels with their history.
        members: channels with their users.

    Raises:
        Invalid: the description is too long.
    """
    call = Call.internal(service)
    groups = (
        ([name for name in histories if name in members], True, True),
        ([name for name in histories if name not in members], True, False),
        ([name for name in members if name not in histories], False, True),
    )
    answer: dict[str, Any] = {}
    size = 0
    for names, with_history, with_users in groups:
        if not names:
            continue
        options = InfoOptions(
            include_history=with_history, include_users=with_users, return_public_state=True
        )
        found = await channels_info(call, names, options)
        for each in found.channels.values():
            size += len(msgspec.json.encode(each))
        if size > LONGEST_BYTES:
            raise Invalid(
                {"channels": [f"More than {LONGEST_BYTES} bytes: ask about fewer, or keep less history."]}
            )
        channels = {name: shown(each, with_users) for name, each in found.channels.items()}
        if not answer:
            answer = {"channels": {}, "users": [], "position": found.position}
        answer["channels"] |= channels
        answer["users"] += [each for each in found.users if each not in answer["users"]]
    return answer


def shown(channel: Any, with_users: bool) -> dict[str, Any]:
    """Return the description of a channel without what is not granted; what is in its JSON stays as it is, unread."""
    described: dict[str, Any] = _fields(channel) if isinstance(channel, Raw) else fields_of(channel)
    if with_users:
        return described
    return {key: value for key, value in described.items() if key in WITHOUT_MEMBERS}
