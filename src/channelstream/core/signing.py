"""Request signatures: itsdangerous' TimestampSigner over the path of the call, as in both generations."""

from enum import StrEnum
from functools import lru_cache
from math import inf
from traceback import clear_frames

from itsdangerous import BadData, TimestampSigner

from channelstream.errors import BadSignature

EPOCH_2011_S = 1_293_840_000
"""Epoch of itsdangerous before 1.0, 2011-01-01; timestamps of both epochs cannot be confused."""
MAX_TOKEN = 4096
"""Longest signature that is checked, in characters; usual ones have about 60."""
KEPT_TOKENS = 256
"""Valid signatures in the cache, each for one path: an application may reuse one, and checking it would be most of the
cost of a call."""


class SignedText(StrEnum):
    """Which text a signature must have (option `signature_text`)."""

    COMPAT = "compat"
    """The path of the call, or a text without a leading slash; the path of another call is refused."""
    PATH = "path"
    ANY = "any"

    def admits(self, text: str, path: str) -> bool:
        if self is SignedText.ANY or text == path:
            return True
        return self is SignedText.COMPAT and not text.startswith("/")


class SignatureChecker:
    """Checks signed tokens against one secret."""

    def __init__(self, secret: str, text: SignedText, max_age_s: float | None, max_ahead_s: float) -> None:
        """Create a checker.

        Args:
            max_age_s: how old a stamp may be, in seconds; None accepts any age.
            max_ahead_s: how far in the future it may be.
        """
        self._signer = TimestampSigner(secret)
        self._signed_s = lru_cache(maxsize=KEPT_TOKENS)(self._unsign)
        self._text = text
        self._max_age_s = max_age_s
        self._max_ahead_s = max_ahead_s

    def check(self, token: str, path: str, now_s: float) -> float:
        """Accept a token for a path; return until when it is accepted, in epoch seconds.

        Raises:
            BadSignature: for any reason; the answer does not reveal which.
        """
        if len(token) > MAX_TOKEN:
            raise BadSignature
        try:
            signed_s = self._signed_s(token, path)
        except (BadData, ValueError, OverflowError, OSError) as error:
            free_frames(error)
            raise BadSignature from None
        # Stamps are whole seconds, rounded down.
        if self._max_age_s is None:
            return inf
        if not -self._max_ahead_s - 1 < now_s - signed_s <= self._max_age_s + 1:
            raise BadSignature
        return signed_s + self._max_age_s + 1

    def _unsign(self, token: str, path: str) -> float:
        """Return the time of a valid token for a path; any other one raises, so that only valid ones are cached."""
        text, stamp = self._signer.unsign(token.encode(), return_timestamp=True)
        if not self._text.admits(text.decode(), path):
            raise BadSignature
        signed_s = stamp.timestamp()
        return signed_s if signed_s >= EPOCH_2011_S else signed_s + EPOCH_2011_S


def free_frames(error: Exception) -> None:
    """Free what an error of itsdangerous keeps alive until garbage is collected, with the request that it is about.

    A function there has the error in a variable, and the error has the frame of that function.
    """
    clear_frames(error.__traceback__)
