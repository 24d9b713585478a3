"""Refuses well-formed settings that must not be served."""

import stat
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from channelstream.auth.foreign import ForeignChecker
from channelstream.config.applications import make_apps, sections
from channelstream.config.issuer_files import keys_in_file
from channelstream.config.keys_file import read_keys
from channelstream.config.secret_values import (
    IN_FILES,
    PUBLIC_OF_PUSHER,
    PUBLIC_SECRETS,
    SECRETS,
    public,
    values_of,
)
from channelstream.config.settings import Settings
from channelstream.config.sources import SECTION
from channelstream.config.tls import server_context
from channelstream.config.token_issuers import read_issuers
from channelstream.engines.factory import is_shared
from channelstream.errors import ConfigError

OF_PUSHER = ("pusher_app_id", "pusher_key", "pusher_secret")
"""Options that are set together, or not at all."""
OTEL_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
"""What the option otel needs."""
OTEL_PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""Those of the extra `otel`: to name the extra would install an older server from PyPI before 1.0 is released."""
ALL_ADDRESSES = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - it is compared
"""Hosts that mean every address of the machine."""


def check_safety(settings: Settings) -> None:
    """Refuse settings that would give anyone access, or cannot work.

    Raises:
        ConfigError: the first fault.
    """
    for problem in problems(settings):
        raise ConfigError(problem)


def check_secrets(settings: Settings) -> None:
    """Refuse files with secrets, read again, as a start with them would be refused.

    Raises:
        ConfigError: the first fault. The text has no secret.
    """
    for problem in (*_secrets(settings), *_pusher(settings)):
        raise ConfigError(problem)


def problems(settings: Settings) -> Iterator[str]:
    """Yield the faults of options in combination, and of the files that they name."""
    yield from _secrets(settings)
    yield from _readers(settings)
    yield from _keys(settings)
    yield from _issuers(settings)
    yield from _checkers(settings)
    yield from _pusher(settings)
    yield from _webhooks(settings)
    yield from _tls(settings)
    yield from _workers(settings)
    yield from _ports(settings)
    yield from _extras(settings)


def _secrets(settings: Settings) -> Iterator[str]:
    if unreadable := list(_secret_files(settings)):
        yield from unreadable
    else:
        yield from _public_secrets(settings)
        yield from _app_secrets(settings)


def _secret_files(settings: Settings) -> Iterator[str]:
    for own in settings.of_each_app:
        for read in IN_FILES.values():
            try:
                read(own)
            except ConfigError as error:
                yield str(error)


def _public_secrets(settings: Settings) -> Iterator[str]:
    if settings.loopback:
        return
    for name in SECRETS:
        is_missing = name == "admin_secret" and not settings.admin_secret
        if is_missing or not public(name).isdisjoint(values_of(settings, name)):
            yield (
                f"{name}: its default or empty value is accepted on loopback only, "
                f"not on host {settings.host!r}; "
                "run `channelstream make-config` to get a file with random secrets"
            )


def _app_secrets(settings: Settings) -> Iterator[str]:
    """Refuse further applications that anyone, or another application, could act for."""
    users: dict[str, dict[str, str]] = {name: {} for name in SECRETS}
    for name, known in users.items():
        known.update(dict.fromkeys(values_of(settings, name), f"[{SECTION}]"))
    for where, of_app in islice(sections(settings), 1, None):
        if not all(values_of(of_app, "secret")):
            yield f"secret: {where} has none; an application needs its own"
        for name, known in users.items():
            for value in filter(None, values_of(of_app, name)):
                if value in known:
                    yield f"{name}: {where} and {known[value]} have the same one; give each application its own"
                elif value in PUBLIC_SECRETS and not settings.loopback:
                    yield f"{name}: {where} has one that is public; it is accepted on loopback only"
                known.setdefault(value, where)


def _readers(settings: Settings) -> Iterator[str]:
    """Refuse a second sign-in with the password or the name of the first one."""
    for where, own in sections(settings):
        if not own.admin_reader_secret:
            continue
        if own.admin_reader_secret == own.admin_secret:
            yield f"admin_reader_secret: {where} has the same as admin_secret, so who looks could change; take another"
        if own.admin_reader_user == own.admin_user:
            yield f"admin_reader_user: {where} has the same as admin_user; take another name"


def _keys(settings: Settings) -> Iterator[str]:
    if settings.keys_file:
        try:
            read_keys(settings.keys_file, make_apps(settings))
        except ConfigError as error:
            yield str(error)


def _issuers(settings: Settings) -> Iterator[str]:
    """Refuse files without keys, and an issuer of two applications: its name alone says whose its tokens are."""
    accepting = [own for own in settings.of_each_app if own.token_max_age_s]
    issuers = [issuer for own in accepting for issuer in read_issuers(own.token_issuers)]
    for name, count in Counter(issuer.name for issuer in issuers).items():
        if count > 1:
            yield f"token_issuers: {name!r} is an issuer of {count} applications; name it in one of them"
    if is_installed("cryptography"):  # Else `_extras` says so.
        for issuer in issuers:
            try:
                keys_in_file(issuer)
            except ConfigError as error:
                yield str(error)


def _checkers(settings: Settings) -> Iterator[str]:
    """Refuse a class for the check of signatures that cannot be used."""
    for own in settings.of_each_app:
        if own.signature_checker:
            try:
                ForeignChecker(own.signature_checker, own.secret, None)
            except ConfigError as error:
                yield str(error)


def _pusher(settings: Settings) -> Iterator[str]:
    """Refuse an incomplete set of Pusher's options, values that two applications share, and a public secret."""
    if any(_secret_files(settings)):
        return  # `_secrets` says so.
    users: dict[str, dict[str, str]] = {name: {} for name in OF_PUSHER}
    for where, own in sections(settings):
        values = {name: [*filter(None, values_of(own, name))] for name in OF_PUSHER}
        missing = [name for name, found in values.items() if not found]
        if missing and any(values.values()):
            yield f"{missing[0]}: {where} has none; set {', '.join(OF_PUSHER)}, or none of them"
        if not PUBLIC_OF_PUSHER.isdisjoint(values["pusher_secret"]) and not settings.loopback:
            yield f"pusher_secret: {where} has one that is public; it is accepted on loopback only"
        for name, value in ((name, value) for name, found in values.items() for value in found):
            if (other := users[name].setdefault(value, where)) != where:
                yield f"{name}: {where} and {other} have the same one; give each application its own"


def _webhooks(settings: Settings) -> Iterator[str]:
    """Refuse receivers who could not know that a call is ours."""
    for where, own in sections(settings):
        if own.webhook_urls and not own.webhook_secret:
            yield f"webhook_secret: {where} has none; set whsec_ and the base64 of 32 random bytes, or no webhook_urls"
        if own.pusher_webhook_urls and not (own.pusher_secret or own.pusher_secret_file):
            yield f"pusher_webhook_urls: {where} has them, and no pusher_secret, which signs the calls"


def _tls(settings: Settings) -> Iterator[str]:
    if settings.ssl_keyfile and not settings.ssl_certfile:
        yield "ssl_keyfile: a key is of no use without ssl_certfile"
    faults = list(_missing_files(settings))
    yield from faults or _unusable_files(settings)


def _missing_files(settings: Settings) -> Iterator[str]:
    for name in ("ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path and (fault := _fault_of(path)):
            yield f"{name}: {path!r} {fault}"


def _fault_of(path: str) -> str:
    """Say why this is no file; empty if it is one. To open a pipe would wait for its writer."""
    try:
        return "" if stat.S_ISREG(Path(path).stat().st_mode) else "is not the path of a file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is not the path of a file"


def _unusable_files(settings: Settings) -> Iterator[str]:
    try:
        server_context(settings)
    except ConfigError as error:
        yield str(error)


def _workers(settings: Settings) -> Iterator[str]:
    if settings.workers == 1:
        return
    if not is_shared(settings.engine):
        yield (
            f"workers: {settings.workers} processes cannot share engine {settings.engine!r}; "
            "set engine = redis://host:port/number, or workers = 1"
        )
    if settings.unix_socket:
        yield (
            f"workers: {settings.workers} processes cannot share unix_socket {settings.unix_socket!r}; "
            "set host and port instead, or workers = 1"
        )


def _ports(settings: Settings) -> Iterator[str]:
    """Refuse one port for two listeners, except at two addresses of the machine."""
    if settings.unix_socket or not settings.metrics_port or settings.metrics_port != settings.port:
        return
    hosts = {settings.host, settings.metrics_host}
    if len(hosts) == 1 or hosts & ALL_ADDRESSES:
        yield f"metrics_port: {settings.metrics_port} is the same as port; take another one"


def _extras(settings: Settings) -> Iterator[str]:
    """Refuse options whose packages are missing."""
    issuers = any(own.token_issuers for own in settings.of_each_app)
    if issuers and not is_installed("cryptography"):
        yield "token_issuers: its package is missing; install it with: pip install cryptography"
    if settings.otel and not all(map(is_installed, OTEL_MODULES)):
        yield f"otel: its packages are missing; install them with: pip install {OTEL_PACKAGES}"


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # A package that it is in.
        return False
