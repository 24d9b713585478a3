"""The file with the keys of all applications (option `keys_file`): its form, and how it is read.

`channelstream keys` writes it; a running server reads it again on SIGHUP.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App
from channelstream.apps.keys import DEFAULT
from channelstream.apps.principal import ALL_RIGHTS, Right
from channelstream.config.private_file import read_private
from channelstream.config.sections.kinds import MAX_RATE
from channelstream.errors import ConfigError

MAX_BYTES = 1 << 20
"""Longest file. A key takes about 200 bytes."""
MAX_KEYS = 1000

_Time = Annotated[datetime, Meta(tz=True)]
_Rate = Annotated[float, Meta(ge=0, le=MAX_RATE)]
"""A second; 0 means no bound."""


class StoredKey(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key in the file.

    Attributes:
        secret: empty for a revoked key, which stays so that its id is not given again.
        rights: those of `Right`; without them, all.
        created: when it was made; unknown for one that was written by hand.
        revoked: when it was revoked; it is not accepted then.
        max_call_rate, max_message_rate: in place of the options max_key_call_rate and max_key_message_rate.
    """

    id: str
    secret: str = ""
    app: str = DEFAULT
    rights: list[Right] | UnsetType = UNSET
    created: _Time | UnsetType = UNSET
    not_before: _Time | UnsetType = UNSET
    not_after: _Time | UnsetType = UNSET
    revoked: _Time | UnsetType = UNSET
    max_call_rate: _Rate | UnsetType = UNSET
    max_message_rate: _Rate | UnsetType = UNSET

    def key(self, app: App) -> ApiKey:
        """Return the key, of this application.

        Raises:
            ValueError: an application has no key with such an id.
        """
        return ApiKey(
            self.id,
            self.secret,
            app,
            ALL_RIGHTS if self.rights is UNSET else frozenset(self.rights),
            None if self.not_before is UNSET else self.not_before.timestamp(),
            None if self.not_after is UNSET else self.not_after.timestamp(),
            None if self.max_call_rate is UNSET else self.max_call_rate,
            None if self.max_message_rate is UNSET else self.max_message_rate,
        )


class _File(Struct, forbid_unknown_fields=True):
    keys: Annotated[list[StoredKey], Meta(max_length=MAX_KEYS)]


_decode = msgspec.json.Decoder(_File).decode


def read_stored(path: str) -> list[StoredKey]:
    """Return the keys in a file, the revoked ones as well.

    Raises:
        ConfigError: it cannot be read, every user may read or change it, or it has another form. The text has no secret.
    """
    data = read_private("keys_file", path, MAX_BYTES)
    try:
        return _decode(data).keys
    except msgspec.DecodeError as error:
        raise ConfigError(f"keys_file: {path!r} is not a file of keys: {error}") from error


def written(keys: Iterable[StoredKey]) -> bytes:
    """Return the text of a file with these keys."""
    return msgspec.json.format(msgspec.json.encode(_File(list(keys))), indent=2) + b"\n"


def read_keys(path: str, apps: Iterable[App]) -> list[ApiKey]:
    """Return the keys in a file that are not revoked.

    Raises:
        ConfigError: as in `read_stored`; or the id of a key is another one's or malformed, or there is no such application.
    """
    by_id = {app.id: app for app in apps}
    stored = read_stored(path)
    for key_id, count in Counter(each.id for each in stored).items():
        if not key_id:
            raise ConfigError(f"keys_file: {path!r} has a key without an id, which means the option secret")
        if count > 1:
            raise ConfigError(f"keys_file: {path!r} has {count} keys with the id {key_id!r}")
    return [_key(each, by_id) for each in stored if each.revoked is UNSET]


def _key(stored: StoredKey, apps: Mapping[str, App]) -> ApiKey:
    app = apps.get(stored.app)
    if app is None:
        raise ConfigError(
            f"keys_file: {stored.id!r} is a key of the application {stored.app!r}, which is not configured"
        )
    try:
        return stored.key(app)
    except ValueError as error:
        raise ConfigError(f"keys_file: {stored.id!r}: {error}") from error
