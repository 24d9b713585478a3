"""Tokens of the simulated application, and what they grant by the checker's own rules."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import jwt

SECRET = "a secret of at least thirty-two bytes"
MAX_AGE_S = 600.0
GRANTS = ("subscribe", "publish", "history", "presence")
PATTERNS = ("news", "hall", "room.1", "room.2", "room.*", "room.**", "*", "**")
LATE_S = 1.0
"""How long a stream may go on whose token has expired or is revoked, in seconds of the loop."""


def has(patterns: Sequence[str], channel: str) -> bool:
    """Whether one of the patterns names a channel: `*` stands for a segment, `**` at the end for one or more."""
    return any(re.fullmatch(_expression(each), channel) for each in patterns)


def _expression(pattern: str) -> str:
    parts = [re.escape(part) if "*" not in part else r"[^.]+" for part in pattern.split(".")]
    if pattern.endswith("**"):
        parts[-1] = r".*[^.].*"
    return r"\.".join(parts)


@dataclass(frozen=True, eq=False)
class Token:
    """A token as the application has made it.

    Attributes:
        channels: what its connection joins by itself.
        grants: patterns of channels, for each of `GRANTS`.
    """

    user: str
    expires_s: float
    issued_s: float | None
    name: str
    channels: tuple[str, ...]
    grants: dict[str, tuple[str, ...]]

    @classmethod
    def draw(cls, chance: random.Random, user: str, channels: Sequence[str], now_s: float) -> "Token":
        return cls(
            user,
            now_s + chance.choice((3.0, 40.0, 300.0, 500.0)),
            chance.choice((None, now_s, now_s)),
            chance.choice(("", f"t{chance.randrange(4)}")),
            tuple(chance.sample(channels, chance.randrange(3))),
            {each: tuple(chance.sample(PATTERNS, chance.randrange(3))) for each in GRANTS},
        )

    def text(self) -> str:
        claims: dict[str, Any] = {"sub": self.user, "exp": self.expires_s, "channels": self.channels}
        claims |= self.grants
        claims |= {"jti": self.name} if self.name else {}
        claims |= {"iat": self.issued_s} if self.issued_s is not None else {}
        return jwt.encode(claims, SECRET, "HS256")

    def may(self, grant: str, channel: str) -> bool:
        return has(self.grants[grant], channel)

    def joins(self, channel: str) -> bool:
        """Whether its client may be in a channel."""
        return channel in self.channels or self.may("subscribe", channel)

    def described(self, channel: str) -> bool:
        return self.may("history", channel) or self.may("presence", channel)


@dataclass
class Revocation:
    """Tokens that the application has revoked: of a user, or of a name.

    Attributes:
        at_s: on the wall, when the call began.
        done_s: of the loop, when it was answered; infinite before, and if that was an error.
    """

    user: str
    name: str
    at_s: float
    done_s: float = inf

    def has(self, token: Token) -> bool:
        if self.name:
            return token.name == self.name
        return token.user == self.user and (token.issued_s is None or token.issued_s <= self.at_s)


class Revoked:
    """All that was revoked in one run of the server."""

    def __init__(self) -> None:
        self.all: list[Revocation] = []

    def since_s(self, token: Token) -> float | None:
        """Return from when on a token is refused; None if it is not revoked."""
        return min((each.done_s for each in self.all if each.has(token)), default=None)

    def is_over(self, token: Token, wall_s: float, loop_s: float) -> bool:
        """Whether a token has been refused for so long that nothing may go on with it."""
        since_s = self.since_s(token)
        return wall_s > token.expires_s + LATE_S or (since_s is not None and loop_s > since_s + LATE_S)
