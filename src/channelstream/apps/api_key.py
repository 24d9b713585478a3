"""A key with which the server of an application proves for whom it acts."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from math import inf

from channelstream.apps.app import App
from channelstream.apps.principal import ALL_RIGHTS, Principal, Right

MIN_SECRET_BYTES = 32
"""Shortest secret of a key that has an id: that of a hash of 256 bits (RFC 2104, 3; RFC 7518, 3.2)."""
FINGERPRINT = 16
"""Hexadecimal digits of a fingerprint."""
_ID = re.compile(r"[A-Za-z0-9_-]{0,64}", re.ASCII)
"""The form of an id, which is in headers, before a dot or a comma, and in logs."""


def fingerprint(secret: str) -> str:
    """Return what tells a secret from others and does not reveal it, if it has `MIN_SECRET_BYTES`."""
    return sha256(secret.encode()).hexdigest()[:FINGERPRINT]


class KeyState(StrEnum):
    """Whether a key is accepted, or why not."""

    VALID = "valid"
    WEAK = "weak"
    """Its secret is shorter than `MIN_SECRET_BYTES`."""
    EARLY = "not yet valid"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of an application.

    Attributes:
        id: names it in requests; empty for the option `secret` of its application.
        secret: what both sides know.
        app: the application for which it acts.
        rights: what it may do.
        not_before_s: the first second at which it is accepted, since the epoch; None accepts it from the start.
        not_after_s: the last one; None accepts it without end.
        calls_per_s: calls that it may make in a second on each node; 0 means no bound, None that of its application.
        messages_per_s: messages, edits and deletions that it may publish, likewise.
        older: secrets before this one that are accepted as well, while callers change to it.
    """

    id: str
    secret: str = field(repr=False)
    app: App
    rights: frozenset[Right] = ALL_RIGHTS
    not_before_s: float | None = None
    not_after_s: float | None = None
    calls_per_s: float | None = None
    messages_per_s: float | None = None
    older: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the id and the times.

        Raises:
            ValueError: the id is not up to 64 ASCII letters, digits, dashes and underscores, or it is never accepted.
        """
        if _ID.fullmatch(self.id) is None:
            raise ValueError("the id of a key has 1 to 64 ASCII letters, digits, dashes and underscores")
        if (self.not_before_s or 0) > (inf if self.not_after_s is None else self.not_after_s):
            raise ValueError("not_before is later than not_after, so the key would be accepted at no time")

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets that are accepted, the newest one first."""
        return (self.secret, *self.older)

    def principal(self, *, is_proven: bool = True) -> Principal:
        """Return the server for which a request with this key acts."""
        return Principal(self.app, self.rights, self.id, is_proven)

    @property
    def is_weak(self) -> bool:
        """Whether the secret is too short. The option `secret` may have any length, as in both older generations."""
        return bool(self.id) and len(self.secret.encode()) < MIN_SECRET_BYTES

    def state(self, now_s: float) -> KeyState:
        """Return whether the key is accepted at a time, in seconds since the epoch."""
        if self.is_weak:
            return KeyState.WEAK
        if self.not_before_s is not None and now_s < self.not_before_s:
            return KeyState.EARLY
        if self.not_after_s is not None and now_s > self.not_after_s:
            return KeyState.EXPIRED
        return KeyState.VALID
