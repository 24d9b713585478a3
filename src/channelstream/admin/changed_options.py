"""Which options differ from those of the last start: their names, for a mark of the history, and never a value.

The engine remembers a digest of each value. That of a secret has 8 bits, the same at all places: enough to notice nearly
every change, and of no use to guess it.
"""

import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.config.cookies import is_drawn
from channelstream.config.settings import OPTIONS
from channelstream.service import Record, TimeSeries

SERIES = "options"
KEPT_S = 365 * 86_400.0
"""How long a start is remembered, in seconds."""
READ = 1000
"""Newest starts among which the last one of the same place is looked for."""
BYTES, SECRET_BYTES = 4, 1
"""Lengths of the digests."""
HOLD_SECRETS = frozenset({"engine", "apps"})
"""Fields that may have a secret in their value: the password of Redis, and the secrets of further applications."""


class _Start(Struct, frozen=True):
    """What is remembered of a start.

    Attributes:
        place: where it listened. Several servers may share an engine, and their options may differ.
        digests: by the names of the options.
    """

    place: str
    digests: dict[str, bytes]


_decoder = msgspec.msgpack.Decoder(_Start)


async def changed_options(series: TimeSeries, at_s: float, settings: Settings) -> list[str]:
    """Return the names of the options that differ from the last start at this place, and remember those of this one.

    Args:
        at_s: the time of this start, in epoch seconds.

    Raises:
        Unavailable: the engine is out of reach.
    """
    place = settings.unix_socket or f"{settings.host}:{settings.port}"
    digests = _digests(settings)
    before = await _last_start(series, at_s, place)
    if digests == before:
        return []
    data = msgspec.msgpack.encode(_Start(place, digests))
    await series.append(SERIES, Record(at_s, data), KEPT_S)
    # An option that only one of two versions has did not change.
    return [name for name, digest in digests.items() if before.get(name, digest) != digest]


async def _last_start(series: TimeSeries, now_s: float, place: str) -> Mapping[str, bytes]:
    """Return the digests of the last start at a place; none if it is not known."""
    for record in reversed(await series.read(SERIES, now_s - KEPT_S, READ)):
        try:
            start = _decoder.decode(record.data)
        except msgspec.MsgspecError:
            continue  # Another version has written it.
        if start.place == place:
            return start.digests
    return {}


def _digests(settings: Settings) -> dict[str, bytes]:
    values = {option.name: getattr(settings, option.name) for option in OPTIONS} | {
        "apps": _sorted(settings.apps)
    }
    if is_drawn(settings.cookie_secret):
        values["cookie_secret"] = ""
    secrets = HOLD_SECRETS | {option.name for option in OPTIONS if option.declared.secret}
    return {
        name: _digest(name, value, SECRET_BYTES if name in secrets else BYTES)
        for name, value in values.items()
    }


def _sorted(apps: tuple[AppSection, ...]) -> list[tuple[str, list[tuple[str, object]]]]:
    """Return the sections of applications in an order that does not depend on the file."""
    return sorted((app.id, sorted(app.values.items())) for app in apps)


def _digest(name: str, value: object, size: int) -> bytes:
    return hashlib.blake2b(repr((name, value)).encode(), digest_size=size).digest()
