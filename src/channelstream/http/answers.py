"""Bytes of the head of an answer."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, cast

from channelstream.core.headers import Header
from channelstream.http.response import Response

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def lines(headers: Sequence[Header]) -> bytes:
    """Return the header lines; the values must not contain line ends."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


class _Fields(NamedTuple):
    """The fields of whole answers that differ in body and time only: most have the same few headers, those of CORS.

    Attributes:
        before_date: the status line.
        before_length: the fields between the date and the length.
        after_length: the other fields, with the line end before them.
        closes: whether one of the fields announces the close of the connection.
    """

    before_date: bytes
    before_length: bytes
    after_length: bytes
    closes: bool


@lru_cache(maxsize=256)
def _fields(status: int, content_type: bytes, headers: tuple[Header, ...]) -> _Fields:
    """Return the fields of such answers.

    Raises:
        ValueError: as `checked_lines` does.
    """
    return _Fields(
        status_line(status),
        b"content-type: %b\r\ncontent-length: " % content_type,
        b"\r\nx-content-type-options: nosniff\r\n" + checked_lines(headers),
        closes(headers),
    )


def closes(headers: Iterable[Header]) -> bool:
    """Return whether one of the headers announces the close of the connection."""
    return any(name == b"connection" and b"close" in value for name, value in headers)


def last_answer(response: Response, date: bytes) -> bytes:
    """Return a whole answer after which the connection closes."""
    fields = response.fields()
    close = b"" if closes(fields) else CLOSE
    head = b"%b%b%b%b\r\n" % (status_line(response.status), date, lines(fields), close)
    return head + cast(bytes, response.body)


def checked_lines(headers: Sequence[Header]) -> bytes:
    """Return the header lines of an application.

    Raises:
        ValueError: a name or value contains a line end.
    """
    text = lines(headers)
    if text.count(b"\n") != len(headers) or text.count(b"\r") != len(headers):
        raise ValueError("a header has a line end in its value")
    return text


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of whole answers of one second, without the value of Content-Length.

    Attributes:
        before_length: up to the length.
        after_length: the other fields, each with the line end before it, without the empty line.
        closes: whether one of the fields announces the close of the connection.
    """

    before_length: bytes
    after_length: bytes
    closes: bool


class AnswerHeads:
    """The heads of the answers of a server; the Date header in them is made once a second (RFC 9110, 6.6.1)."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = -1
        self._date = b""
        self._last: AnswerHead | None = None
        self._last_fields: tuple[int, bytes, tuple[Header, ...]] | None = None
        """Status, content type and headers of the answers with this head."""

    def date(self) -> bytes:
        """Return the line of the Date header."""
        now_s = self._now()
        if not 0 <= now_s - self._second < 1:
            self._second = int(now_s)
            self._date = b"date: %b\r\n" % formatdate(self._second, usegmt=True).encode()
            self._last = None
        return self._date

    def of(self, status: int, content_type: bytes, headers: tuple[Header, ...]) -> AnswerHead:
        """Return the head of a whole answer; most have that of the answer before.

        Raises:
            ValueError: as `checked_lines` does.
        """
        date, named = self.date(), (status, content_type, headers)
        if self._last is not None and named == self._last_fields:
            return self._last
        fields = _fields(*named)
        before_length = fields.before_date + date + fields.before_length
        self._last = AnswerHead(before_length, fields.after_length, fields.closes)
        self._last_fields = named
        return self._last
