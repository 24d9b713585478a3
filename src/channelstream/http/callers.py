"""Who calls the API most, and whose requests are refused most: by address and key, in bounded memory."""

from typing import NamedTuple

from channelstream.core.frequent import Frequent

ADDRESS_CHARACTERS = 64


class Caller(NamedTuple):
    """Who makes calls.

    Attributes:
        app_id: the application for which it acts.
        address: as the policy of proxies sees it.
        key_id: the key that it named; empty if it named none, or is refused.
    """

    app_id: str
    address: str
    key_id: str


class Callers:
    """The callers of one process, lately; who reads the counts begins them again.

    Attributes:
        calls: calls with valid credentials.
        refused: refused requests, of all paths.
    """

    def __init__(self) -> None:
        self.calls: Frequent[Caller] = Frequent()
        self.refused: Frequent[Caller] = Frequent()

    def called(self, app_id: str, address: str, key_id: str) -> None:
        """Count a call."""
        self.calls[Caller(app_id, address[:ADDRESS_CHARACTERS], key_id)] += 1

    def was_refused(self, app_id: str, address: str) -> None:
        """Count a refused request."""
        self.refused[Caller(app_id, address[:ADDRESS_CHARACTERS], "")] += 1
