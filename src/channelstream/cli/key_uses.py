"""When keys were used last: the running server knows, if there is one at the address of the settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, cast

from channelstream.apps.app import App
from channelstream.apps.keys import DEFAULT
from channelstream.cli.remote import Server, url_of
from channelstream.cli.signing_key import SigningKey, signs_old
from channelstream.config.applications import settings_by_app
from channelstream.config.keys_file import StoredKey
from channelstream.config.secret_file import secrets_of
from channelstream.config.settings import Settings
from channelstream.errors import RequestFailed

UNUSED = timedelta(days=30)
"""A key that nobody used for so long should be revoked."""
PATH = "/admin/data/keys"

Uses = Mapping[str, datetime | None]
"""The last use of each key; None means that the server remembers none."""


def last_uses(settings: Settings, app_ids: Iterable[str]) -> Uses:
    """Return the last uses of the keys of these applications, as the running server knows them.

    Raises:
        RequestFailed: it does not answer.
    """
    own = settings_by_app(settings)
    uses: dict[str, datetime | None] = {}
    for app_id in sorted(set(app_ids) & own.keys()):
        for row in _rows(settings, own[app_id], app_id, secrets_of(own[app_id])):
            used = row["last_used"]
            uses[row["id"]] = None if used is None else datetime.fromisoformat(used).replace(tzinfo=UTC)
    return uses


def _rows(settings: Settings, own: Settings, app_id: str, secrets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the keys of an application, as the running server shows them.

    The newest secret of a file may be one that the server learns with the next SIGHUP; then an older one signs.
    """
    secret, *older = secrets
    url = url_of(settings) + ("" if app_id == DEFAULT else f"/app/{app_id}")
    key = SigningKey("", secret, app_id, signs_old(own))
    server = Server(url, key, settings.unix_socket, settings.ssl_certfile, address_flag="")
    try:
        return cast("list[dict[str, Any]]", server.get(PATH, {}, dict, "rows")["rows"])
    except RequestFailed as error:
        if not older or error.status != HTTPStatus.UNAUTHORIZED:
            raise
    return _rows(settings, own, app_id, older)


def state_of(stored: StoredKey, now: datetime) -> str:
    """Return whether a key is accepted at a time, or why not."""
    if stored.revoked:
        return "revoked"
    try:
        return str(stored.key(App(stored.app)).state(now.timestamp()))
    except ValueError:
        return "malformed"


def warnings(settings: Settings, stored: Iterable[StoredKey], now: datetime) -> Iterator[str]:
    """Yield a sentence about each key that is weak, expired or unused."""
    states = {each.id: (each, state_of(each, now)) for each in stored}
    for key_id, (_, state) in states.items():
        if state in ("weak", "expired"):
            yield f"keys_file: {key_id!r} is {state}, and not accepted: revoke it, or make another one"
    valid = [each for each, state in states.values() if state == "valid"]
    if not valid:
        return
    try:
        uses = last_uses(settings, [each.app for each in valid])
    except RequestFailed as error:
        yield f"keys_file: which keys are unused is not known, since the server does not say it: {error}"
        return
    for each in valid:
        if each.id in uses and _is_unused(each, uses[each.id], now):
            yield f"keys_file: {each.id!r} was not used in the last {UNUSED.days} days: revoke it, if nobody needs it"


def _is_unused(stored: StoredKey, used: datetime | None, now: datetime) -> bool:
    last = used or stored.created
    return not last or now - last > UNUSED
