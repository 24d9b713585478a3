"""Keys: the names of channels, users and connections as nodes and engines know them.

A key is made of the id of an application and a name, so that two applications may use one name for two things. In the
default application the key is the name itself: stores and logs of a server that has only this one look as if there were
no keys. Other keys begin with `MARK`, which also ends the id; a name of the default application that begins with `MARK`
gets an empty id before it. So no two pairs of application and name have the same key.

A member of a channel may have a name that counts in this channel only. Its key has the channel beside the id, so it is
neither that of a user of the application nor that of a member of another channel. Engines forget such a user soon after its
last connection has ended, and a channel without events in which only such users were (`Channel.is_brief`). The script of the
Redis engine recognizes the key, too.

Keys of one application are in the order of their names, except those with an empty id and those of members. Nobody else
takes a key apart or puts one together.
"""

from collections.abc import Iterable

DEFAULT = "default"
"""The id of the application that the options outside of any section describe."""
MARK = "\x1f"
IN_CHANNEL = "\x1e"
"""Between the id and the channel in the key of a member; no id has it."""


def make_key(app_id: str, name: str) -> str:
    """Return the key of a name in an application."""
    if app_id != DEFAULT:
        return f"{MARK}{app_id}{MARK}{name}"
    return f"{MARK}{MARK}{name}" if MARK in name and name[0] == MARK else name


def make_member_key(app_id: str, channel: str, name: str) -> str:
    """Return the key of a name that counts in one channel only.

    Raises:
        ValueError: the channel contains `MARK`, so that no name could follow it.
    """
    if MARK in channel:
        raise ValueError("a channel whose members have names of their own cannot have this name")
    return f"{MARK}{app_id}{IN_CHANNEL}{channel}{MARK}{name}"


def is_member_key(key: str) -> bool:
    """Whether a key is that of a member of one channel (`make_member_key`)."""
    return key[:1] == MARK and IN_CHANNEL in key[1:].partition(MARK)[0]


def is_apart_key(key: str) -> bool:
    """Whether a key is that of a member of no channel: a user who belongs to one connection (`make_member_key` with "")."""
    return key[:1] == MARK and key[1:].partition(MARK)[0].endswith(IN_CHANNEL)


def may_have_member_keys(keys: Iterable[str]) -> bool:
    """Whether some of the keys may be those of members (`make_member_key`): then their order is not that of their names."""
    return any(IN_CHANNEL in key for key in keys)


def name_of(key: str) -> str:
    """Return the name in a key."""
    if MARK not in key or key[0] != MARK:
        return key
    _, mark, name = key[1:].partition(MARK)
    return name if mark else key


def app_id_of(key: str) -> str:
    """Return the id of the application in a key."""
    if MARK not in key or key[0] != MARK:
        return DEFAULT
    app_id, mark, _ = key[1:].partition(MARK)
    return app_id.partition(IN_CHANNEL)[0] if mark and app_id else DEFAULT
