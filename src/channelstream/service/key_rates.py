"""How much the programs of an application may do in a second on this node, by the key with which they call."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from math import ceil

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.core.token_bucket import TokenBucket
from channelstream.errors import TooManyRequests
from channelstream.service.rates import rate_text


class KeyLimit(StrEnum):
    """What a key has a limit of."""

    CALLS = "key_calls"
    MESSAGES = "key_messages"


class KeyRate:
    """The rates of one key."""

    __slots__ = ("_calls", "_clock", "_messages", "_refused", "bounds")

    def __init__(
        self, bounds: tuple[float, float], clock: Callable[[], float], refused: dict[str, int]
    ) -> None:
        """Create rates that are not used yet.

        Args:
            bounds: calls, and messages, in a second; 0 means no bound.
            clock: returns seconds of a clock that never jumps.
            refused: where it counts what it refuses, by limit.
        """
        self.bounds = bounds
        self._clock = clock
        self._refused = refused
        self._calls, self._messages = (TokenBucket(each, now_s=clock()) if each else None for each in bounds)

    def check_call(self) -> None:
        """Count a call that is about to be carried out.

        Raises:
            TooManyRequests: there are too many.
        """
        if wait_s := self._wait_s(self._calls, KeyLimit.CALLS, 1):
            allowed = rate_text(self.bounds[0], "call")
            raise TooManyRequests(f"This key may make {allowed}; send this one later.", ceil(wait_s))

    def check_messages(self, count: int) -> None:
        """Count messages that are about to be published.

        Raises:
            TooManyRequests: there are too many; none of them is counted.
        """
        if wait_s := self._wait_s(self._messages, KeyLimit.MESSAGES, count):
            allowed = rate_text(self.bounds[1], "message")
            raise TooManyRequests(f"This key may publish {allowed}; send these later.", ceil(wait_s))

    def _wait_s(self, bucket: TokenBucket | None, limit: KeyLimit, count: int) -> float:
        """Return 0 if so many are counted; else they are refused, and may come in so many seconds."""
        wait_s = 0.0 if bucket is None else bucket.take(count, self._clock())
        if wait_s:
            self._refused[limit] += count
        return wait_s


class KeyRates:
    """The rates of the keys of one application.

    Attributes:
        by_key: of each key that has a limit, by its id; that of the option `secret` is empty.
        refused: calls and messages that were refused since the start, by limit.
    """

    def __init__(self, app: App, clock: Callable[[], float]) -> None:
        """Create the rates of an application without keys.

        Args:
            clock: returns seconds of a clock that never jumps.
        """
        self.refused: dict[str, int] = dict.fromkeys(KeyLimit, 0)
        self.by_key: dict[str, KeyRate] = {}
        self._app = app
        self._clock = clock

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Take these keys of the application in place of all others; those whose limits are the same go on to count."""
        bounds = {key.id: self._bounds(key.calls_per_s, key.messages_per_s) for key in keys}
        if self._app.pusher is not None:
            bounds[self._app.pusher.key_id] = self._bounds(None, None)
        self.by_key = {key_id: self._rate(key_id, each) for key_id, each in bounds.items() if any(each)}

    def _bounds(self, calls_per_s: float | None, messages_per_s: float | None) -> tuple[float, float]:
        """Return the bounds of a key; None is that of the application."""
        limits = self._app.limits
        return (
            limits.key_calls_per_s if calls_per_s is None else calls_per_s,
            limits.key_messages_per_s if messages_per_s is None else messages_per_s,
        )

    def _rate(self, key_id: str, bounds: tuple[float, float]) -> KeyRate:
        known = self.by_key.get(key_id)
        if known is not None and known.bounds == bounds:
            return known
        return KeyRate(bounds, self._clock, self.refused)
