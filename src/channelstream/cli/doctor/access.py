"""Checks of the options that decide who has access."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations

from channelstream.cli.doctor.finding import Finding, Subject, fault, warning
from channelstream.cli.key_uses import state_of
from channelstream.config import interpolated, safety, weak_secrets
from channelstream.config.keys_file import read_stored
from channelstream.config.networks import is_loopback
from channelstream.config.secret_values import SECRETS, readable_values
from channelstream.config.settings import APP_SECRETS, Settings
from channelstream.core.addresses import EVERYBODY, read_network
from channelstream.engines.factory import is_shared
from channelstream.errors import ConfigError

ALL_SECRETS = (*SECRETS, "cookie_secret", "pusher_secret")


async def combined(subject: Subject) -> Iterable[Finding]:
    """Report what the server itself refuses at its start."""
    return [
        fault(text, "correct it: the server does not start with it")
        for text in safety.problems(subject.settings)
    ]


async def keys(subject: Subject) -> Iterable[Finding]:
    return [*_secrets(subject), *_read_otherwise(subject), *_cookies(subject), *_stored(subject)]


def _secrets(subject: Subject) -> Iterator[Finding]:
    """Report the secrets of each application; `safety` refuses those that two of them have."""
    yield from _secrets_of(subject, subject.settings, ALL_SECRETS, "")
    for app in subject.settings.apps:
        yield from _secrets_of(subject, subject.settings.of_app(app), APP_SECRETS, f"[app:{app.id}] ")


def _secrets_of(subject: Subject, own: Settings, names: Sequence[str], where: str) -> Iterator[Finding]:
    """Report secrets that are public, that can be guessed, and those that are equal.

    Args:
        own: the settings of an application.
        names: its options that are secret.
        where: names the application, with a blank at its end; empty for the default one.
    """
    for name in weak_secrets.known_secrets(own):
        report = fault if subject.is_behind_proxy else warning
        yield report(f"{where}{name} has a public default value", weak_secrets.ADVICE)
    for name in weak_secrets.short_secrets(own, names):
        report = fault if name in weak_secrets.SIGNING else warning
        yield report(
            f"{where}{name} has fewer than {weak_secrets.SHORTEST_SECRET} characters", weak_secrets.ADVICE
        )
    for one, other in combinations(names, 2):
        if any(filter(None, {*readable_values(own, one)} & {*readable_values(own, other)})):
            yield fault(
                f"{where}{one} and {other} are equal: who has one has the other",
                f"give {other} a value of its own",
            )


def _read_otherwise(subject: Subject) -> Iterator[Finding]:
    for text in interpolated.warnings(subject.settings, subject.ini) if subject.ini else ():
        yield warning(text, interpolated.ADVICE)


def _stored(subject: Subject) -> Iterator[Finding]:
    """Report keys that the server does not accept."""
    if not subject.settings.keys_file:
        return
    try:
        found = read_stored(subject.settings.keys_file)
    except ConfigError:
        return  # `combined` reports it.
    now = datetime.fromtimestamp(subject.wall(), UTC)
    for stored in found:
        state = state_of(stored, now)
        if state in ("weak", "expired"):
            yield warning(
                f"the key {stored.id!r} is {state}: calls with it are answered 401",
                f"channelstream keys revoke {stored.id}, or make another one",
            )


def _cookies(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if not settings.cookie_secret and is_shared(settings.engine):
        yield warning(
            "cookie_secret is empty: a sign-in to /admin holds at one machine, until its next start",
            "set the same random cookie_secret at all nodes",
        )


async def callers(subject: Subject) -> Iterable[Finding]:
    """Report lists of addresses that admit everybody."""
    return [*_everybody(subject), *_metrics(subject), *_proxies(subject)]


def _everybody(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if any(map(_is_all, settings.trusted_proxies)):
        yield fault(
            "trusted_proxies has every address: any client can claim to be another one",
            "name the addresses of the proxies only",
        )
    described = [("", settings.raw_secret_in_query)]
    described += [(f"[app:{app.id}] ", app.values.get("raw_secret_in_query", "")) for app in settings.apps]
    for where, admitted in described:
        if admitted == "always":
            yield warning(
                f"{where}raw_secret_in_query is always: the secret is accepted in addresses, which proxies log",
                "set it to loopback or never, and sign the calls",
            )


def _metrics(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    is_open = settings.metrics_port and not settings.metrics_allow and not is_loopback(settings.metrics_host)
    if is_open or any(map(_is_all, settings.metrics_allow)):
        yield warning("everybody who reaches it may read /metrics", "name the scrapers in metrics_allow")


def _proxies(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    is_proxied = subject.public is not None and subject.public.url not in {node.url for node in subject.nodes}
    if is_proxied and not settings.trusted_proxies:
        yield warning(
            "trusted_proxies is empty: every request through a proxy seems to come from the proxy itself, and if that may"
            " call the API, so may everybody",
            "name the address of the proxy in trusted_proxies",
        )


def _is_all(entry: str) -> bool:
    """Return whether an entry admits every address."""
    return entry == EVERYBODY or not read_network(entry).prefixlen


async def https(subject: Subject) -> Iterable[Finding]:
    return [*_unreachable(subject), *_plain_origins(subject), *_plain_port(subject)]


def _unreachable(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if settings.enforce_https and not settings.ssl_certfile and not settings.trusted_proxies:
        yield fault(
            "enforce_https without ssl_certfile and trusted_proxies: every request is answered 406",
            "name the proxy that speaks TLS in trusted_proxies, or a certificate in ssl_certfile",
        )


def _plain_origins(subject: Subject) -> Iterator[Finding]:
    settings, public = subject.settings, subject.public
    if not settings.enforce_https and not (public and public.url.startswith("https:")):
        return
    described = [("", settings.allow_cors)]
    described += [(f"[app:{app.id}] ", app.values.get("allow_cors", ())) for app in settings.apps]
    for where, origin in ((where, origin) for where, origins in described for origin in origins):
        if origin.startswith("http:") and not is_loopback(origin.removeprefix("http://").partition(":")[0]):
            yield warning(
                f"{where}allow_cors has {origin}: a page without TLS can be changed on the way",
                "write its https:// origin",
            )


def _plain_port(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if not settings.loopback and not settings.ssl_certfile and not settings.enforce_https:
        yield warning(
            f"host {settings.host} has no TLS: conn_ids, signatures and the admin password can be read on the way",
            "listen on a loopback or private address behind a proxy with TLS, and set enforce_https",
        )
