"""The check of issuers of tokens: whether the keys at their addresses can be read from here. Those in files are options."""

import asyncio
from collections.abc import Iterable, Iterator

from channelstream.cli.doctor.finding import Finding, Subject, fault
from channelstream.config.safety import is_installed
from channelstream.config.token_issuers import IssuerSource, read_issuers
from channelstream.regular_file import CannotRead


def has_addresses(subject: Subject) -> bool:
    """Whether there are keys to ask for; without the package, which the check of options reports, none can be read."""
    return any(_at_addresses(subject)) and is_installed("cryptography")


def _at_addresses(subject: Subject) -> Iterator[IssuerSource]:
    for own in subject.settings.of_each_app:
        if own.token_max_age_s:
            yield from (each for each in read_issuers(own.token_issuers) if not each.source.startswith("/"))


async def keys(subject: Subject) -> Iterable[Finding]:
    """Report issuers whose keys the server could not read, and so would accept no token of."""
    found = await asyncio.gather(*map(_read, _at_addresses(subject)))
    return [each for each in found if each is not None]


async def _read(issuer: IssuerSource) -> Finding | None:
    # Here, as it needs the extra `tokens`.
    from channelstream.integrations.issuer_keys import keys_at

    try:
        await keys_at(issuer.source, issuer.algorithm)
    except (CannotRead, ValueError) as error:
        return fault(
            f"the keys of {issuer.name!r} cannot be read: {error}", "correct its address, or its algorithm"
        )
    return None
