"""Who calls the API most, and whose requests are refused most: by address and key, in bounded memory."""

from channelstream.core.addresses import ADDRESS_CHARACTERS
from channelstream.core.frequent import Frequent

Caller = tuple[str, str, str]
"""Who makes calls: the application for which it acts, its address as the policy of proxies sees it, and the key that it
named, empty if it named none or is refused. A plain tuple, since one is made for each call."""


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
        self.calls[app_id, address[:ADDRESS_CHARACTERS], key_id] += 1

    def was_refused(self, app_id: str, address: str) -> None:
        """Count a refused request."""
        self.refused[app_id, address[:ADDRESS_CHARACTERS], ""] += 1
