"""What the callers of an application may use: forms of credentials, and addresses."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from channelstream.core.addresses import Networks
from channelstream.core.nonces import Nonces
from channelstream.errors import Forbidden


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


def check_address(address: str, access: Iterable[AppAccess]) -> None:
    """Refuse an address from which none of these applications may be called.

    Raises:
        Forbidden: it is one.
    """
    if not any(each.allowed.has(address) for each in access):
        raise foreign_address()


def foreign_address() -> Forbidden:
    """Return the refusal of an address that may not call."""
    return Forbidden("This address may not call the API; see the option allow_posting_from.")
