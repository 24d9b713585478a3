"""A strict reader of request heads (RFC 9112).

Only this file and `http_body.py` decide where a request ends. Everything that another reader, such as a proxy in front,
could read in another way is refused: a second Content-Length, a transfer coding beside a length, a bare CR or LF, a space
before a colon. Otherwise a client could hide a second request in the body of the first (request smuggling).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

from channelstream.core.addresses import Peer
from channelstream.core.headers import Header
from channelstream.errors import BadRequest, HeadTooLong, UnsupportedCoding

_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) ([\x21-\x7e]++) HTTP/1\.([01])(?=\r\n)")
_FIELD: Final = re.compile(rb"\r\n([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)(?=\r\n)")
"""A line end and the field after it: a token, no space before the colon, no control characters (RFC 9110, 5.5)."""
_BEGINNING: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++(?: |\Z)|\r?\Z")
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_HOST: Final = re.compile(rb"(?:[\w\-.~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::\d*)?", re.ASCII)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
LENGTH: Final = re.compile(rb"\d{1,18}")
"""The form of Content-Length."""
_SINGLE: Final = {b"host": "Host", b"content-length": "Content-Length"}
"""Fields that a request may have once, even with equal values: two readers may use different ones."""
_Fields = dict[bytes, bytes]
FIELDS: Final = 100
"""Most fields of a head, as of other servers: what is read of short ones takes up to 25 times as many bytes as they have."""


class RequestHead(NamedTuple):
    """A request without its body.

    Attributes:
        version: `1.0` or `1.1`.
        path: decoded; `raw_path` is as received, `query` what follows the question mark.
        headers: names in lower case; a host in the target replaces the Host (RFC 9112, 3.2.2).
        first: the first value of each name in `headers`.
        body_bytes: length of the body; None if it comes in chunks.
        keep_alive: the connection may serve another request; with HTTP/1.0 never.
        expects_continue: the client waits for `100 Continue` before it sends the body.
        upgrade: the header Upgrade, if Connection names it; else empty (`offered`).
        client: address and port of the peer; None for a unix socket.
        scheme: of the socket, `http` or `https`.
    """

    method: str
    version: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[Header]
    first: Mapping[bytes, bytes]
    body_bytes: int | None
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes
    client: Peer | None
    scheme: str


def read_head(data: bytes, client: Peer | None = None, scheme: str = "http") -> RequestHead:
    """Return a head.

    Args:
        data: the whole head, with the empty line at its end.
        client: address and port of the peer; None for a unix socket.
        scheme: of the socket, `http` or `https`.

    Raises:
        BadRequest: it breaks RFC 9112, or is ambiguous.
        HeadTooLong: it has too many fields.
        UnsupportedCoding: its body has a transfer coding besides `chunked`.
    """
    line = _LINE.match(data)
    if line is None:
        raise BadRequest("The request must begin with a line such as GET /path HTTP/1.1.")
    method, target, minor = line.groups()
    headers = _read_fields(data, line.end())
    fields = _by_name(headers)
    is_1_1 = minor == b"1"
    _check_host(fields.get(b"host"), is_1_1)
    raw_path, query = _read_target(method, target, headers)
    path = raw_path.decode("ascii")
    connection, expect = _tokens(fields.get(b"connection")), fields.get(b"expect")
    # Without a second field of any name, and with the Host as it was sent, the values are those of the list.
    is_as_sent = len(fields) == len(headers) and target[:1] == b"/"
    return RequestHead(
        method.decode("ascii"),
        "1.1" if is_1_1 else "1.0",
        unquote(path) if "%" in path else path,
        raw_path,
        query,
        headers,
        fields if is_as_sent else first_values(headers),
        _body_bytes(fields, is_1_1),
        is_1_1 and b"close" not in connection,
        is_1_1 and expect is not None and b"100-continue" in _tokens(expect),
        fields.get(b"upgrade", b"") if is_1_1 and b"upgrade" in connection else b"",
        client,
        scheme,
    )


def offered(head: RequestHead) -> tuple[bytes, ...]:
    """Return the protocols that a client offers in Upgrade, in lower case; they may be very many, and are kept nowhere."""
    return _tokens(head.upgrade)


def first_values(headers: Sequence[Header]) -> Mapping[bytes, bytes]:
    """Return the first value of each name."""
    return dict(reversed(headers))


def check_beginning(data: bytes, start: int, seen: int) -> None:
    """Refuse an incomplete head that cannot become a valid one.

    Args:
        data: the received bytes.
        start: index of the head.
        seen: index up to which it was checked before.

    Raises:
        BadRequest: it is not HTTP/1.1.
    """
    if _BEGINNING.match(data, start) is None or _BARE.search(data, seen) is not None:
        raise BadRequest("This is not an HTTP/1.1 request: begin with a line such as GET /path HTTP/1.1.")


def check_trailer(data: bytes) -> None:
    """Refuse a trailer that is not a field; it is not used.

    Args:
        data: the trailer, with a line end before it, and the empty line after it.

    Raises:
        BadRequest: it is not a field.
    """
    _read_fields(data, 0)


def _read_fields(data: bytes, start: int) -> list[Header]:
    # The last two line ends are those of the last field and of the empty line.
    count = data.count(b"\r\n", start) - 2
    if count > FIELDS:
        raise HeadTooLong(f"The head of the request has more than {FIELDS} headers.")
    fields = _FIELD.findall(data, start)
    if len(fields) != count:
        raise BadRequest("A header is a name, a colon and a value, in one line that ends with CR LF.")
    return [(name.lower(), value.rstrip()) for name, value in fields]


def _by_name(headers: list[Header]) -> _Fields:
    """Return the value of each name; several fields of one name are one list (RFC 9110, 5.3)."""
    fields = dict(headers)
    if len(fields) < len(headers):
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        for name, title in _SINGLE.items():
            if len(values.get(name, ())) > 1:
                raise BadRequest(f"Send exactly one {title} header.")
        fields = {name: b",".join(lines) for name, lines in values.items()}
    return fields


def _tokens(value: bytes | None) -> tuple[bytes, ...]:
    """Return the items of a list, in lower case (RFC 9110, 5.6.1)."""
    if value is None:
        return ()
    if b"," not in value:
        item = value.strip().lower()
        return (item,) if item else ()
    return tuple([item for part in value.lower().split(b",") if (item := part.strip())])


def _check_host(host: bytes | None, is_needed: bool) -> None:
    """Refuse a missing Host, and one that is not a host with an optional port (RFC 9112, 3.2)."""
    if host is None:
        if is_needed:
            raise BadRequest("Send exactly one Host header.")
    elif _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header must be a host, with or without a port.")


def _read_target(method: bytes, target: bytes, headers: list[Header]) -> tuple[bytes, bytes]:
    """Return path and query of the target in any form except that of CONNECT (RFC 9112, 3.2)."""
    if method == b"CONNECT":
        raise BadRequest("This server is not a proxy: CONNECT is not supported.")
    if target[:1] != b"/" and not (target == b"*" and method == b"OPTIONS"):
        target = _origin_form(target, headers)
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return path, query


def _origin_form(target: bytes, headers: list[Header]) -> bytes:
    """Return the target without its host, which replaces the Host header (RFC 9112, 3.2.2)."""
    match = _ABSOLUTE.fullmatch(target.partition(b"#")[0])
    if match is None or _HOST.fullmatch(match[1]) is None:
        raise BadRequest("The target of a request is a path, or a URL of http or https.")
    headers[:] = [(b"host", match[1]), *(field for field in headers if field[0] != b"host")]
    return match[2] if match[2].startswith(b"/") else b"/" + match[2]


def _body_bytes(fields: _Fields, is_1_1: bool) -> int | None:
    """Return the length of the body; None if it is chunked (RFC 9112, 6)."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or not is_1_1:
            raise BadRequest("Send Transfer-Encoding in HTTP/1.1 only, and without Content-Length.")
        _check_codings([item.strip() for item in coding.lower().split(b",")])
        return None
    if length is None:
        return 0
    if LENGTH.fullmatch(length) is None:
        raise BadRequest("Content-Length must be one number of bytes.")
    return int(length)


def _check_codings(codings: list[bytes]) -> None:
    """Refuse all codings but `chunked`; if it is not the last one, the end of the body is unknown (RFC 9112, 6.3)."""
    if codings == [b"chunked"]:
        return
    if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and all(codings):
        raise UnsupportedCoding("Send the body with no other Transfer-Encoding than chunked.")
    raise BadRequest("Transfer-Encoding must be chunked.")
