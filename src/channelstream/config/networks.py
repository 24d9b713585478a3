"""Lists of addresses and networks, and the check for loopback addresses."""

import re
from dataclasses import dataclass

from channelstream.config.values import split_list
from channelstream.core.addresses import read_address, read_network

_PLACEHOLDER = re.compile(r"(?=.*[a-z])(\d{1,3}|[a-z])(\.(\d{1,3}|[a-z])){3}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Networks:
    """IPv4 and IPv6 addresses and networks, in their shortest spelling.

    Placeholders such as ``x.x.x.x``, from the sample file of the first generation, are left out: they admit no
    address. `placeholders` finds them for a warning.
    """

    allowed = "a list of addresses or networks such as 127.0.0.1, 10.0.0.0/8 or ::1"
    metavar = "LIST"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(_spell(entry) for entry in split_list(text) if not is_placeholder(entry))

    def placeholders(self, text: str) -> list[str]:
        return [entry for entry in split_list(text) if is_placeholder(entry)]


def _spell(entry: str) -> str:
    return str(read_network(entry) if "/" in entry else read_address(entry))


def is_placeholder(entry: str) -> bool:
    """Whether an entry is a placeholder: four parts, at least one of them a single letter."""
    return _PLACEHOLDER.fullmatch(entry) is not None


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to this host can be reached only from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return read_address(host).is_loopback
    except ValueError:
        return False
