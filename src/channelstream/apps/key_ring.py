"""The keys of all applications of a server."""

from collections.abc import Iterable, Iterator

from channelstream.apps.api_key import ApiKey, KeyState, fingerprint
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.keys import DEFAULT
from channelstream.apps.principal import Right
from channelstream.errors import BadSignature


class KeyRing:
    """Finds the key that a request names. Several keys of an application are valid at once, so that a secret rotates."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        """Create a ring with these keys; see `replace`."""
        self._named: dict[str, ApiKey] = {}
        self._secrets: dict[str, ApiKey] = {}
        self._own_secrets: dict[str, tuple[str, ...]] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Take these keys in place of all others.

        Raises:
            ValueError: two keys have one id, or an application two keys without an id; the ring is as before.
        """
        named: dict[str, ApiKey] = {}
        secrets: dict[str, ApiKey] = {}
        for key in keys:
            table, name = (named, key.id) if key.id else (secrets, key.app.id)
            if name in table:
                raise ValueError(f"two keys have the id {key.id!r}")
            table[name] = key
        self._named, self._secrets = named, secrets
        self._own_secrets = {app_id: key.secrets for app_id, key in secrets.items()}

    def __iter__(self) -> Iterator[ApiKey]:
        yield from self._secrets.values()
        yield from self._named.values()

    def own_secrets(self, app_id: str) -> tuple[str, ...]:
        """Return the secrets of an application that have no id, the newest one first; empty if it has none."""
        return self._own_secrets.get(app_id, ())

    def find(self, key_id: str, now_s: float, app: App | None = None) -> ApiKey:
        """Return the key with an id, if it is accepted now.

        Args:
            key_id: unique among all applications; empty means the option `secret` of the application.
            now_s: seconds since the epoch.
            app: the application that the request names; None if it names none, which the key then decides.

        Raises:
            BadSignature: there is no such key, it is not accepted, or it is another application's; one answer for all.
        """
        key = self._named.get(key_id) if key_id else self._secrets.get(app.id if app else DEFAULT)
        if key is None or key.state(now_s) is not KeyState.VALID:
            raise BadSignature
        if app is not None and key.app.id != app.id:
            raise BadSignature
        return key

    def expires_between(self, since_s: float, now_s: float) -> bool:
        """Whether a key was accepted at one time, in seconds since the epoch, and has expired at a later one."""
        ends_s = (key.not_after_s for key in self._named.values())
        return any(end_s is not None and since_s <= end_s < now_s for end_s in ends_s)

    def accepts(self, client: Client, now_s: float) -> bool:
        """Whether the key, and its secret, that signed the token of a client are accepted now, and may grant what it says.

        The key of an issuer is none of these.
        """
        if client.key_id is None:
            return True
        try:
            key = self.find(client.key_id, now_s, client.app)
        except BadSignature:
            return False
        if Right.CONNECT not in key.rights or any(client.beyond(key.rights)):
            return False
        return not client.signed_with or client.signed_with in map(fingerprint, key.secrets)
