"""Request signatures: itsdangerous' TimestampSigner over the path of the call, as in both generations."""

from enum import StrEnum
from functools import lru_cache

from itsdangerous import BadData, TimestampSigner

from channelstream.errors import BadSignature

EPOCH_2011_S = 1_293_840_000
"""Epoch of itsdangerous before 1.0, 2011-01-01; timestamps of both epochs cannot be confused."""
MAX_TOKEN = 4096
"""Longest signature that is checked, in characters; usual ones have about 60."""
KEPT_TOKENS = 256
"""Valid signatures in the cache: an application may reuse one, and checking it is most of the cost of a call."""


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
        self._read = lru_cache(maxsize=KEPT_TOKENS)(self._unsign)
        self._text = text
        self._max_age_s = max_age_s
        self._max_ahead_s = max_ahead_s

    def check(self, token: str, path: str, now_s: float) -> None:
        """Accept a token for a path.

        Raises:
            BadSignature: for any reason; the answer does not reveal which.
        """
        if len(token) > MAX_TOKEN:
            raise BadSignature
        try:
            text, signed_s = self._read(token)
        except (BadData, ValueError, OverflowError, OSError):
            raise BadSignature from None
        if not self._text.admits(text, path) or not self._is_fresh(signed_s, now_s):
            raise BadSignature

    def _unsign(self, token: str) -> tuple[str, float]:
        """Return the text and the time of a valid token; an invalid one raises, so that only valid ones are cached."""
        text, stamp = self._signer.unsign(token.encode(), return_timestamp=True)
        return text.decode(), stamp.timestamp()

    def _is_fresh(self, signed_s: float, now_s: float) -> bool:
        if self._max_age_s is None:
            return True
        if signed_s < EPOCH_2011_S:
            signed_s += EPOCH_2011_S
        # Stamps are whole seconds, rounded down.
        return -self._max_ahead_s - 1 < now_s - signed_s <= self._max_age_s + 1
