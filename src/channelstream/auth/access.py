"""What the callers of an application may use: forms of credentials, and addresses."""

from dataclasses import dataclass
from enum import StrEnum

from channelstream.core.addresses import Networks
from channelstream.core.nonces import Nonces


class RequestSigning(StrEnum):
    """The forms that are accepted (option `request_signing`)."""

    OLD = "old"
    """Signatures of the older generations, over path and time."""
    SIGNED = "signed"
    """Signatures over the whole request."""
    ANY = "any"
    """Both, and bearer keys."""


@dataclass(frozen=True, slots=True)
class AppAccess:
    """The rules for the callers of one application.

    Attributes:
        signing: which forms are accepted.
        allowed: addresses that may call.
        nonces: of its signed requests.
    """

    signing: RequestSigning
    allowed: Networks
    nonces: Nonces
