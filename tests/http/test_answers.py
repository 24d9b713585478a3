"""The heads of whole answers: made once, and again for each second."""

import pytest

from channelstream.http.answers import AnswerHeads
from channelstream.http.response import JSON, TEXT

HEADERS = ((b"vary", b"origin"),)


def test_the_date_is_made_once_a_second() -> None:
    """Also where the clock goes back."""
    now_s = 1_000.0
    heads = AnswerHeads(lambda: now_s)
    first = heads.date()
    assert first == b"date: Thu, 01 Jan 1970 00:16:40 GMT\r\n"
    now_s = 1_000.9
    assert heads.date() is first
    now_s = 1_001.0
    assert heads.date() == first.replace(b"40", b"41")
    now_s = 999.5
    assert heads.date() == first.replace(b"40", b"39")


def test_answers_of_one_kind_share_a_head_until_the_second_ends() -> None:
    now_s = 1_000.0
    heads = AnswerHeads(lambda: now_s)
    head = heads.of(200, JSON, HEADERS)
    assert head.before_length == (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:16:40 GMT\r\ncontent-type: application/json\r\ncontent-length: "
    )
    assert head.after_length == b"\r\nx-content-type-options: nosniff\r\nvary: origin\r\n"
    assert heads.of(200, JSON, (HEADERS[0],)) is head
    now_s = 1_001.0
    assert b"00:16:41" in heads.of(200, JSON, HEADERS).before_length


@pytest.mark.parametrize(
    ("status", "content_type", "headers", "part"),
    [
        (404, JSON, HEADERS, b"HTTP/1.1 404 Not Found"),
        (200, TEXT, HEADERS, b"content-type: text/plain"),
        (200, JSON, (), b"nosniff\r\n"),
    ],
)
def test_answers_that_differ_have_heads_of_their_own(
    status: int, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...], part: bytes
) -> None:
    heads = AnswerHeads(lambda: 1_000.0)
    before = heads.of(200, JSON, HEADERS)
    other = heads.of(status, content_type, headers)
    assert part in other.before_length + other.after_length
    assert heads.of(200, JSON, HEADERS) == before
    assert other != before


def test_a_head_says_whether_its_connection_closes() -> None:
    heads = AnswerHeads(lambda: 1_000.0)
    assert not heads.of(200, JSON, HEADERS).closes
    assert heads.of(200, JSON, ((b"connection", b"close"),)).closes


def test_a_header_with_a_line_end_is_refused() -> None:
    """Also after one that is not."""
    heads = AnswerHeads(lambda: 1_000.0)
    heads.of(200, JSON, HEADERS)
    with pytest.raises(ValueError, match="line end"):
        heads.of(200, JSON, ((b"vary", b"a\r\nb: c"),))
