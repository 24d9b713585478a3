"""How much the clients of an application may do by commands in a second on this node: each connection, and each user."""

from collections.abc import Callable
from enum import StrEnum
from math import ceil
from typing import Final

from channelstream.apps.app import AppLimits
from channelstream.core.token_buckets import TokenBuckets
from channelstream.errors import TooManyRequests
from channelstream.service.rates import rate_text


class ClientLimit(StrEnum):
    """What clients have a limit of."""

    CONNECTION_COMMANDS = "connection_commands"
    CONNECTION_BYTES = "connection_bytes"
    USER_COMMANDS = "user_commands"
    USER_MESSAGES = "user_messages"


_TEXTS: Final = {
    ClientLimit.CONNECTION_COMMANDS: ("A connection may send {}; send this one later.", "command"),
    ClientLimit.CONNECTION_BYTES: ("A connection may publish {}; send this message later.", "byte"),
    ClientLimit.USER_COMMANDS: ("A user may send {}; send this one later.", "command"),
    ClientLimit.USER_MESSAGES: ("A user may publish {}; send this one later.", "message"),
}
"""The refusals, and the units of their rates."""


class ClientRates:
    """The rates of the clients of one application.

    Attributes:
        refused: commands that were refused since the start, by limit.
    """

    def __init__(self, limits: AppLimits, clock: Callable[[], float]) -> None:
        """Create rates that are not used yet.

        Args:
            clock: returns seconds of a clock that never jumps.
        """
        self.refused: dict[str, int] = dict.fromkeys(ClientLimit, 0)
        self._clock = clock
        per_s = {
            ClientLimit.CONNECTION_COMMANDS: limits.connection_commands_per_s,
            ClientLimit.CONNECTION_BYTES: limits.connection_bytes_per_s,
            ClientLimit.USER_COMMANDS: limits.user_commands_per_s,
            ClientLimit.USER_MESSAGES: limits.user_messages_per_s,
        }
        self._buckets: dict[ClientLimit, TokenBuckets[str]] = {
            limit: TokenBuckets(rate) for limit, rate in per_s.items() if rate
        }

    def check_command(self, conn_id: str, user: str) -> None:
        """Count a command that is about to be carried out.

        Raises:
            TooManyRequests: its connection, or its user, sends too many.
        """
        if self._buckets:
            self._take(ClientLimit.CONNECTION_COMMANDS, conn_id, 1)
            self._take(ClientLimit.USER_COMMANDS, user, 1)

    def check_message(self, conn_id: str, user: str, size: int) -> None:
        """Count a message that is about to be published, besides its command.

        Args:
            size: of its payload, in bytes.

        Raises:
            TooManyRequests: its connection publishes too many bytes, or its user too many messages.
        """
        if self._buckets:
            self._take(ClientLimit.CONNECTION_BYTES, conn_id, size)
            self._take(ClientLimit.USER_MESSAGES, user, 1)

    def _take(self, limit: ClientLimit, name: str, count: int) -> None:
        buckets = self._buckets.get(limit)
        if buckets is None:
            return
        wait_s = buckets.take(name, count, self._clock())
        if wait_s:
            self.refused[limit] += 1
            text, unit = _TEXTS[limit]
            raise TooManyRequests(text.format(rate_text(buckets.per_s, unit)), ceil(wait_s))
