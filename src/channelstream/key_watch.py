"""Watches the keys of applications, which their file may change at any time, for what was derived from them."""

from channelstream.apps.client import Client
from channelstream.config.applications import Credentials
from channelstream.transports.streams import Streams


class KeyWatch:
    """Applies the rates of keys, and ends the streams whose tokens a key has signed that is no longer accepted."""

    def __init__(self, credentials: Credentials, streams: Streams) -> None:
        self._credentials = credentials
        self._streams = streams
        self._seen_s: float | None = None
        """The time of the last look for expired keys, in seconds since the epoch."""
        self._apply_rates()

    def read_again(self) -> None:
        """Read the files of keys and secrets again, and end the streams of those that are not in them any more.

        Raises:
            ConfigError: one cannot be used; the keys stay as they were.
        """
        self._credentials.reload()
        self._apply_rates()
        self._streams.run_in_background(self._end_refused())

    async def end_expired(self) -> None:
        """End the streams of keys that have expired since the last time.

        The first time, those of all keys that are not accepted: an upgrade brings streams, and may find another file.
        """
        before_s, self._seen_s = self._seen_s, self._streams.node.clock.wall()
        if before_s is None or self._credentials.keys.expires_between(before_s, self._seen_s):
            await self._end_refused()

    def _apply_rates(self) -> None:
        for service in self._streams.services.all():
            service.key_rates.replace(key for key in self._credentials.keys if key.app is service.app)

    async def _end_refused(self) -> None:
        await self._streams.node.revocations.end_refused(self._accepts)

    def _accepts(self, client: Client) -> bool:
        return self._credentials.keys.accepts(client, self._streams.node.clock.wall())
