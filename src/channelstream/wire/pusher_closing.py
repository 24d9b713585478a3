"""How lines of Pusher's clients are closed: with codes that say to these whether they come back, and when."""

from collections.abc import Mapping
from typing import Final

from channelstream.close_codes import CloseCode
from channelstream.wire.frames import close_frame

CLOSE_CODES: Final[dict[int, int]] = {
    CloseCode.NORMAL: 4009,
    CloseCode.TOKEN_EXPIRED: 4009,
    CloseCode.RESTARTING: 4200,
    CloseCode.OVERLOADED: 4100,
    CloseCode.REPLACED: 4100,
    CloseCode.TOO_SLOW: 4100,
    CloseCode.UNKNOWN_CONNECTION: 4001,
}
"""The codes of this server, and as which a client of Pusher is sent them.

On 4000 to 4099 it stops; on 4100 to 4199 it comes back after a second, on 4200 to 4299 at once.
"""
REFUSAL_CODES: Final = {code: sent for code, sent in CLOSE_CODES.items() if code != CloseCode.TOO_SLOW}
"""The codes for lines that are not opened, where 4008 tells a client that it has named no version."""
SILENT: Final = 4201
"""Closes the line of a client that has shown no sign of life."""


def closing_frame(code: int | None, reason: str) -> bytes:
    """Return the close frame in which a client reads whether it comes back; it always has a reason.

    Args:
        code: one of this server, or as it is sent.
    """
    return _closing(CLOSE_CODES, code, reason)


def refusal_frame(code: int | None, reason: str) -> bytes:
    """Return the close frame of a line that is not opened, as `closing_frame` does."""
    return _closing(REFUSAL_CODES, code, reason)


def _closing(codes: Mapping[int, int], code: int | None, reason: str) -> bytes:
    return close_frame(None, "") if code is None else close_frame(codes.get(code, code), reason or "closed")
