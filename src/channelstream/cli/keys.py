"""`channelstream keys`: make, list and revoke the keys of applications."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from channelstream.apps.app import App
from channelstream.apps.keys import DEFAULT
from channelstream.apps.principal import Right
from channelstream.cli.key_uses import Uses, last_uses, state_of
from channelstream.cli.keys_store import changed
from channelstream.cli.settings import settings_of
from channelstream.config.applications import make_apps, settings_by_app
from channelstream.config.flags import OneLineParser, add_file_flag, add_flags
from channelstream.config.keys_file import MAX_KEYS, StoredKey, read_stored
from channelstream.config.settings import BY_NAME, Settings
from channelstream.config.template import random_secret
from channelstream.errors import ConfigError, RequestFailed

DESCRIPTION = "Make, list and revoke the keys of applications, in the file of the option keys_file."
EPILOG = """\
examples:
  channelstream keys new web-1 --rights connect,publish --keys-file keys.json
  channelstream keys list -i channelstream.ini
  channelstream keys revoke web-1 -i channelstream.ini && kill -HUP "$PID"

A running server reads the file again on SIGHUP. `new` prints the secret.
"""
ALL = "all rights"
COLUMNS = (
    "id",
    "application",
    "rights",
    "state",
    "calls/s",
    "messages/s",
    "not before",
    "not after",
    "last used",
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the first word says.

    Raises:
        ConfigError: the arguments, the settings or the file are wrong.
    """
    parser = _parser()
    arguments = parser.parse_strictly(argv)
    settings = settings_of(arguments, environ)
    if not settings.keys_file:
        parser.error("name the file: --keys-file FILE, or the option keys_file")
    if (arguments.action == "list") == bool(arguments.id):
        parser.error("new and revoke take the id of one key, list takes none")
    now = datetime.now(UTC).replace(microsecond=0)
    match arguments.action:
        case "new":
            _new(settings.keys_file, _made(arguments, now), list(make_apps(settings)))
        case "revoke":
            _revoke(settings.keys_file, arguments.id, now)
        case _:
            _list(settings, now)
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser("channelstream keys", DESCRIPTION, EPILOG)
    actions = ("new", "list", "revoke")
    parser.add_argument("action", metavar="|".join(actions), choices=actions, help="What to do.")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="The id of the key.")
    new = parser.add_argument_group("A new key")
    words = ",".join(Right)
    new.add_argument("--rights", default="", metavar="LIST", help=f"Some of {words} [all of them]")
    new.add_argument("--app", default=DEFAULT, metavar="ID", help=f"Its application [{DEFAULT}]")
    new.add_argument(
        "--not-before", default="", metavar="TIME", help="When it becomes valid, such as 2027-01-31 [now]"
    )
    new.add_argument(
        "--not-after", default="", metavar="TIME", help="When it expires; without a zone, UTC [never]"
    )
    # Not as `max_message_rate`, which is an option of the server.
    new.add_argument(
        "--max-call-rate",
        dest="calls",
        default="",
        metavar="N",
        help="Calls a second; 0 means no bound [max_key_call_rate]",
    )
    new.add_argument(
        "--max-message-rate",
        dest="messages",
        default="",
        metavar="N",
        help="Messages a second; 0 means no bound [max_key_message_rate]",
    )
    group = parser.add_argument_group("The file")
    add_file_flag(group.add_argument)
    add_flags(group.add_argument, [BY_NAME["keys_file"]], {"keys_file": "Path of the file with the keys."})
    return parser


def _made(arguments: Namespace, now: datetime) -> StoredKey:
    return StoredKey(
        id=arguments.id,
        secret=random_secret(),
        app=arguments.app,
        rights=_rights(arguments.rights),
        created=now,
        not_before=_time(arguments.not_before, "--not-before"),
        not_after=_time(arguments.not_after, "--not-after"),
        max_call_rate=_rate(arguments.calls, "--max-call-rate", "max_key_call_rate"),
        max_message_rate=_rate(arguments.messages, "--max-message-rate", "max_key_message_rate"),
    )


def _rights(text: str) -> list[Right] | UnsetType:
    if not text:
        return UNSET
    try:
        return sorted({Right(word.strip()) for word in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"--rights: {text!r} is not a list of {', '.join(Right)}") from error


def _time(text: str, flag: str) -> datetime | UnsetType:
    if not text:
        return UNSET
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{flag}: {text!r} is not a time such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _rate(text: str, flag: str, option: str) -> float | UnsetType:
    """Return a rate in place of that of an option, whose values it may have."""
    if not text:
        return UNSET
    kind = BY_NAME[option].declared.kind
    try:
        return float(kind.parse(text))
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is not {kind.allowed}") from error


def _new(path: str, key: StoredKey, apps: Sequence[App]) -> None:
    app = next((app for app in apps if app.id == key.app), None)
    if app is None:
        raise ConfigError(f"--app: there is no application {key.app!r} in the settings")
    try:
        key.key(app)
    except ValueError as error:
        raise ConfigError(f"{key.id!r}: {error}") from error
    with changed(path) as keys:
        if any(each.id == key.id for each in keys):
            raise ConfigError(f"there is a key {key.id!r} already; a key that is replaced needs another id")
        if len(keys) >= MAX_KEYS:
            raise ConfigError(f"the file has {MAX_KEYS} keys, which are as many as it may have")
        keys.append(key)
    print(f"id: {key.id}\nsecret: {key.secret}")
    _say(f"written to {path}; a running server reads it on SIGHUP")


def _revoke(path: str, key_id: str, now: datetime) -> None:
    with changed(path) as keys:
        found = next((each for each in keys if each.id == key_id and each.revoked is UNSET), None)
        if found is None:
            raise ConfigError(f"there is no key {key_id!r} that could be revoked in {path!r}")
        found.secret, found.revoked = "", now
    _say(f"{key_id} is revoked in {path}; a running server reads it on SIGHUP")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _list(settings: Settings, now: datetime) -> None:
    stored = read_stored(settings.keys_file)
    uses: Uses = {}
    try:
        uses = last_uses(settings, [each.app for each in stored])
    except RequestFailed as error:
        _say(f"when keys were used last is not known: {error}")
    own = settings_by_app(settings)
    _print_table(_row(each, own.get(each.app, settings), now, uses.get(each.id)) for each in stored)


def _row(stored: StoredKey, own: Settings, now: datetime, used: datetime | None) -> tuple[str, ...]:
    """Return the row of a key.

    Args:
        own: the settings of its application, which have the rates of keys without their own.
    """
    times = (stored.not_before, stored.not_after, used or UNSET)
    rights = ALL if stored.rights is UNSET else ",".join(stored.rights)
    rates = (
        own.max_key_call_rate if stored.max_call_rate is UNSET else stored.max_call_rate,
        own.max_key_message_rate if stored.max_message_rate is UNSET else stored.max_message_rate,
    )
    shown = (f"{rate:g}" if rate else "" for rate in rates)
    return (stored.id, stored.app, rights, state_of(stored, now), *shown, *map(_shown, times))


def _shown(time: datetime | UnsetType) -> str:
    return "" if time is UNSET else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print_table(rows: Iterable[tuple[str, ...]]) -> None:
    table = [COLUMNS, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
