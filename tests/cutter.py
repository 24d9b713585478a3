"""A strict cutter of HTTP/1.x: the reference for where each request of a connection ends (RFC 9112).

It is written for tests: it takes whole inputs, knows no bounds, and refuses what the RFC lets a server refuse. A server
may refuse more, and must never serve a request that it does not see.
"""

import re
from dataclasses import dataclass

_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION = (
    rb'[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"))?'
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION % (_TOKEN, _TOKEN) + rb")*")

Fields = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """The connection is to be closed: where the next request begins is not certain."""


class Incomplete(Exception):
    """More bytes are needed."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        is_whole: False for the last one, whose body continues, or ends where it is malformed.
        may_take_over: it asks for an upgrade, or a tunnel; what follows is HTTP only if the server ignores that.
    """

    method: bytes
    target: bytes
    body: bytes
    is_whole: bool
    may_take_over: bool


@dataclass(frozen=True)
class Cut:
    """The requests of one connection.

    Attributes:
        end: `more` if the next bytes would continue it, `closed` behind a last request, `malformed` where an error is due.
    """

    requests: list[Request]
    end: str


def cut(data: bytes) -> Cut:
    """Cut the bytes of a client into requests."""
    requests: list[Request] = []
    reader = _Reader(data)
    while True:
        try:
            if not reader.skip_empty_lines():
                return Cut(requests, "more")
            is_last = reader.request(requests)
        except Incomplete:
            return Cut(requests, "more")
        except Malformed:
            return Cut(requests, "malformed")
        if is_last:
            return Cut(requests, "closed")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip_empty_lines(self) -> bool:
        """Pass over CR and LF before a request line (RFC 9112, 2.2); False at the end."""
        while self._data[self._at : self._at + 1] in (b"\r", b"\n"):
            self._at += 1
        return self._at < len(self._data)

    def request(self, requests: list[Request]) -> bool:
        """Read one request into the list, and say whether it is the last one."""
        line = _REQUEST.fullmatch(self._line())
        if line is None:
            raise Malformed
        method, target, minor = line.groups()
        fields = self._fields()
        chunked, length = _framing(fields, minor)
        takes_over = method == b"CONNECT" or bool(_values(fields, b"upgrade"))
        body: list[bytes] = []
        is_whole = False
        try:
            self._chunks(body) if chunked else self._exactly(length, body)
            is_whole = True
        finally:
            requests.append(Request(method, target, b"".join(body), is_whole, takes_over))
        options = b",".join(_values(fields, b"connection")).lower().split(b",")
        tokens = {option.strip(b" \t") for option in options}
        return b"close" in tokens or (minor == b"0" and b"keep-alive" not in tokens)

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise Incomplete
        line, self._at = self._data[self._at : end + 1], end + 1
        if not line.endswith(b"\r\n"):
            raise Malformed
        return line[:-2]

    def _fields(self) -> Fields:
        fields: Fields = []
        while line := self._line():
            field = _FIELD.fullmatch(line)
            if field is None:
                raise Malformed
            fields.append((field[1].lower(), field[2]))
        return fields

    def _exactly(self, size: int, body: list[bytes]) -> None:
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        body.append(part)
        if len(part) < size:
            raise Incomplete

    def _chunks(self, body: list[bytes]) -> None:
        while True:
            head = _CHUNK.fullmatch(self._line())
            if head is None:
                raise Malformed
            size = int(head[1], 16)
            if not size:
                self._fields()  # The trailers.
                return
            self._exactly(size, body)
            end: list[bytes] = []
            self._exactly(2, end)
            if end != [b"\r\n"]:
                raise Malformed


def _framing(fields: Fields, minor: bytes) -> tuple[bool, int]:
    """Return whether the body is chunked, and else its length (RFC 9112, 6)."""
    lengths = _values(fields, b"content-length")
    codings = _values(fields, b"transfer-encoding")
    if codings:
        names = [name.strip(b" \t").lower() for name in b",".join(codings).split(b",")]
        if lengths or minor == b"0" or names[-1] != b"chunked" or names.count(b"chunked") > 1:
            raise Malformed
        return True, 0
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"[0-9]{1,15}", lengths[0])):
        raise Malformed
    return False, int(lengths[0]) if lengths else 0


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]
