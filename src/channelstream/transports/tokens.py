"""Clients with tokens, as all streams of the process see them: whose a token is, and what such clients may do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.auth.issuer import UnknownKey
from channelstream.errors import BadToken
from channelstream.service import Describe
from channelstream.wire.commanding import MAX_FAULTS


class TokenCheck(Protocol):
    """Finds out for whom a token speaks (`auth.token.TokenAuth`)."""

    def client(self, token: str, now_s: float, app: App | None = None) -> Client: ...

    def accepts(self, client: Client, now_s: float) -> bool:
        """Whether the key that has signed the token of a client is accepted now."""


class ReadKeys(Protocol):
    """Reads the keys of issuers (`integrations.issuer_keys.IssuerKeys`)."""

    async def read(self, name: str) -> bool:
        """Read the keys of the issuer with this name again; return whether there are new ones."""

    def renew(self) -> None:
        """Begin to read keys that are old."""


class Revoked(Protocol):
    """Tokens that are refused before they expire (`service.revocations.Revocations`)."""

    async def load(self) -> None:
        """Find out which these are, once."""

    def has(self, client: Client) -> bool:
        """Whether the token of a client is among them."""


class Tokens:
    """Checks tokens, and has the keys of issuers read again where a token names one that is not known."""

    def __init__(
        self,
        check: TokenCheck,
        wall: Callable[[], float],
        revoked: Revoked,
        keys: ReadKeys | None = None,
    ) -> None:
        """Create the check.

        Args:
            check: as the tokens themselves allow.
            wall: returns epoch seconds.
            revoked: tokens that are refused before they expire.
            keys: those of issuers; None if there are no issuers.
        """
        self._check = check
        self._wall = wall
        self._revoked = revoked
        self._keys = keys

    async def client(self, token: str, app: App | None = None) -> Client:
        """Return the client for which a token speaks.

        Args:
            token: from a client.
            app: the application that the request names; None if it names none.

        Raises:
            BadToken: it is not accepted.
            OverreachingToken: its key may not grant this.
            Unavailable: it is not known yet which tokens are revoked, and the engine is out of reach.
        """
        client = await self._signed(token, app)
        await self._revoked.load()
        self.check_again(client)
        return client

    def check_again(self, client: Client) -> None:
        """Refuse a client whose token has expired since it was checked, or was revoked, or the key of it.

        Call it after a wait: before the stream opens, and before each command of a request.

        Raises:
            BadToken: it is not accepted any more.
        """
        now_s = self._wall()
        if self._revoked.has(client) or not self._check.accepts(client, now_s):
            raise BadToken("The token was revoked: get a fresh one.")
        if client.expires_s <= now_s:
            raise BadToken("The token has expired: get a fresh one.")

    async def _signed(self, token: str, app: App | None) -> Client:
        if self._keys is not None:
            self._keys.renew()
        try:
            return self._check.client(token, self._wall(), app)
        except UnknownKey as error:
            if self._keys is None or not await self._keys.read(error.issuer):
                raise BadToken(note=error.note) from error
        return self._check.client(token, self._wall(), app)


async def _describe_nothing(*_: object) -> dict[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class ClientRules:
    """What clients with tokens may do here.

    Attributes:
        tokens: checks their tokens; None accepts none.
        describe: as of `service.ClientService`.
        setting_state: the ids of the applications whose clients may change the state of their users.
        max_faults: faulty commands after which a stream is closed.
    """

    tokens: Tokens | None = None
    describe: Describe = _describe_nothing
    setting_state: frozenset[str] = frozenset()
    max_faults: int = MAX_FAULTS


NO_TOKENS = ClientRules()
