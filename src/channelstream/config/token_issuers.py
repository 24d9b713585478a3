"""Issuers of clients' tokens, as options name them: each by its claim `iss`, its algorithm and where its public keys are."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from channelstream.auth.issuer import SignedBy
from channelstream.config.networks import is_loopback
from channelstream.config.values import split_list

MAX_ISSUERS = 20
"""Most issuers of an application."""
_NAME = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


class IssuerSource(NamedTuple):
    """An issuer as an option names it.

    Attributes:
        source: the path of a file, or an https:// address.
    """

    name: str
    algorithm: SignedBy
    source: str


@dataclass(frozen=True, slots=True)
class Issuers:
    """A list in which each issuer takes three words."""

    allowed = (
        f"a list of up to {MAX_ISSUERS} issuers of three words each: the claim iss, one of {', '.join(SignedBy)}, and an"
        " absolute path or https:// address (to this machine also http://) of the public keys, different for each"
    )
    metavar = "LIST"

    def parse(self, text: str) -> tuple[str, ...]:
        words = list(split_list(text))
        found = tuple(" ".join(words[start : start + 3]) for start in range(0, len(words), 3))
        names = {source.name for source in read_issuers(found)}
        if len(names) != len(found) or len(found) > MAX_ISSUERS:
            raise ValueError(text)
        return found


def read_issuers(found: Sequence[str]) -> Iterator[IssuerSource]:
    """Yield the issuers of an option.

    Raises:
        ValueError: one is faulty.
    """
    for each in found:
        name, algorithm, source = each.split(" ")
        if _NAME.fullmatch(name) is None or not _is_source(source):
            raise ValueError(each)
        yield IssuerSource(name, SignedBy(algorithm), source)


def _is_source(source: str) -> bool:
    """Whether keys may be read from there: nobody between may change them."""
    if source.startswith("/"):
        return True
    url = urlsplit(source)
    if not url.hostname or url.username is not None or url.password is not None:
        return False
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname))
