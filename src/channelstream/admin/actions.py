"""What an admin does from a page: calls of the API, and how each is described in the record of acts."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from channelstream.api import channels, connections, messages
from channelstream.api.call import Call
from channelstream.api.plain import read_plain
from channelstream.api.schemas import ChannelSettings
from channelstream.errors import Malformed
from channelstream.pages.act import Act, Did, act_of
from channelstream.pages.caller import Caller

Subject = tuple[str, str]
"""Kind and name of what something is done to."""
SETTINGS = frozenset(ChannelSettings.__struct_fields__)
"""The names of all settings of a channel."""


class Action(NamedTuple):
    """An action: its body is that of the API's call.

    Attributes:
        call: the handler of the API, which may answer at once.
        did: how the record names it.
        subjects: returns to what it was done, from the body.
        more: returns what else there is to say about it.
    """

    call: Callable[[Call], Any]
    did: Did
    subjects: Callable[[Any], Iterable[Subject]]
    more: Callable[[Any], str] = lambda _: ""


def _connections(body: Any) -> Iterable[Subject]:
    yield "connection", body["conn_id"]


def _channels(body: Any) -> Iterable[Subject]:
    return (("channel", name) for name in body)


def _recipients(body: Any) -> Iterable[Subject]:
    for message in body if isinstance(body, list) else [body]:
        if message.get("channel"):
            yield "channel", message["channel"]
        else:
            yield from (("user", name) for name in message["pm_users"])


def _settings(body: Any) -> str:
    # The API ignores what is no setting.
    named = {setting for patch in body.values() for setting in patch}
    return ", ".join(sorted(named & SETTINGS))


ACTIONS = {
    "disconnect": Action(connections.disconnect, Did.DISCONNECTED, _connections),
    "settings": Action(channels.channel_config, Did.CHANGED_SETTINGS, _channels, _settings),
    "message": Action(messages.publish, Did.SENT, _recipients),
}
"""The actions of an admin."""


def described(caller: Caller, action: str, body: bytes) -> Act:
    """Describe an action that was done with this body."""
    did = ACTIONS[action].did
    try:
        document = read_plain(body)
        subjects = list(dict.fromkeys(ACTIONS[action].subjects(document)))
        more = ACTIONS[action].more(document)
    except (Malformed, LookupError, TypeError, AttributeError):
        return act_of(caller, did, more="something")
    kind, name = subjects[0] if subjects else ("", "")
    others = f"and {len(subjects) - 1} more" if len(subjects) > 1 else ""
    return act_of(caller, did, kind, str(name), ", ".join(filter(None, (others, more))))
