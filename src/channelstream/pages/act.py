"""What an admin does: who, from where, what, and to what. No value of it is a secret."""

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from channelstream.pages.caller import Caller


class Did(StrEnum):
    """What was done, as the middle of a sentence. The values are stored."""

    SIGNED_IN = "signed in"
    SIGNED_OUT = "signed out"
    FAILED = "failed to sign in"
    DISCONNECTED = "disconnected"
    SENT = "sent a message to"
    CHANGED_SETTINGS = "changed the settings of"
    STARTED_TRACE = "started a trace of"
    STOPPED_TRACE = "stopped the trace of"
    LOOKED = "looked at the payloads of a trace of"
    SIGNED_CALL = "had a call signed of"
    SENT_WEBHOOKS = "sent webhooks again to"
    GAVE_UP_WEBHOOKS = "gave up webhooks that are refused by"


class Act(Struct, frozen=True):
    """Something that an admin did.

    Attributes:
        who: the name of the sign-in, or of the key that signed the request; empty if it is not known.
        address: of the client.
        kind: of what it was done to: `channel`, `user`, `connection`, `path` or `receiver`; empty if there is nothing.
        name: of that.
        more: what else there is to say, in words.
    """

    who: str
    address: str
    did: str
    kind: str = ""
    name: str = ""
    more: str = ""


Record = Callable[[Act], None]
"""Records an act at this moment."""


def act_of(caller: Caller, did: Did, kind: str = "", name: str = "", more: str = "") -> Act:
    return Act(caller.name, caller.address, did, kind, name, more)
