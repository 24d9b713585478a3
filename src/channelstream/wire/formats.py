"""The table of all formats of streams (`core.format`), and the format of a client on a transport."""

from channelstream.core.client_protocol import ClientProtocol
from channelstream.core.format import Format
from channelstream.wire.channelstream import DIALECTS, Framing, formats

_OWN = tuple(formats(number=0, form=0))
FORMATS: tuple[Format, ...] = (*_OWN,)
"""Each at its number. The formats of a further protocol follow, with numbers and forms of their own."""
_BY_CLIENT: dict[tuple[str, Framing], Format] = {
    (name, format_.framing): format_
    for name, dialect in DIALECTS.items()
    for format_ in _OWN
    if format_.dialect is dialect
}


def is_known(protocol: ClientProtocol) -> bool:
    """Return whether this version speaks a protocol; a connection may have been registered by a node of a later one."""
    return (protocol.name, Framing.WEBSOCKET) in _BY_CLIENT


def format_of(protocol: ClientProtocol, framing: Framing) -> Format:
    """Return the format of a client of a known protocol, with the framing of its transport."""
    return _BY_CLIENT[protocol.name, framing]
