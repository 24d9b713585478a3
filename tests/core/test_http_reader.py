"""Requests on a connection: where each ends, and refusals, in chunks of any size."""

import json
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.http_body import CHUNK_LINE_BYTES, CHUNK_STEPS
from channelstream.core.http_head import FIELDS, RequestHead, offered
from channelstream.core.http_reader import REPEATED_BYTES, REPEATED_FIELDS, RequestReader
from channelstream.errors import BadRequest, ChannelstreamError, HeadTooLong

VECTORS = json.loads((Path(__file__).parents[2] / "spec/vectors/http.json").read_text())["vectors"]
LIMIT = 2000
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%b"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

SIZED = b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: \t%b \r\nX: %b\r\n\r\n"
REPEATED = (
    GET,
    POST % b"ab",
    SIZED % (b"2", b"1") + b"ab",
    SIZED % (b"003", b"1") + b"abc",
    SIZED % (b"0", b"1"),
    POST % b"\r\n",
    CHUNKED + b"2\r\nab\r\n0\r\n\r\n",
    b"\r\n" + GET,
)
"""Requests, in which an empty line may seem to stand before the next one."""


class Read:
    """The events of a reader that is driven as a connection does."""

    def __init__(self, pieces: list[bytes], limit: int = LIMIT) -> None:
        self.reader = RequestReader(limit)
        self.requests: list[tuple[RequestHead, bytearray]] = []
        self.refused: int | None = None
        self.most = 0
        try:
            for piece in pieces:
                if taken := self.reader.take(piece):
                    self.requests.append((taken[0], bytearray(taken[1])))
                else:
                    self.reader.receive(piece)
                    self._go_on()
        except ChannelstreamError as error:
            self.refused = error.http_status

    def _go_on(self) -> None:
        while True:
            while not self.reader.is_whole:
                self.requests[-1][1].extend(self.reader.body())
                if not (self.reader.is_whole or self.reader.has_stopped):
                    return
            head = self.reader.head()
            if head is None:
                return
            self.requests.append((head, bytearray()))

    @property
    def result(self) -> tuple[list[tuple[RequestHead, bytes]], int | None]:
        return [(head, bytes(body)) for head, body in self.requests], self.refused


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_connections_are_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """Each connection of the vectors is read as they say, in pieces of any size."""
    for size in (1, 2, 7, 100_000):
        read = Read(pieces_of(vector["bytes"].encode("latin-1"), size))
        assert (size, read.refused) == (size, vector["refused"])
        assert (size, len(read.requests)) == (size, len(vector["requests"]))
        for (head, body), expected in zip(read.requests, vector["requests"], strict=True):
            seen = head._asdict() | {
                "query": head.query.decode(),
                "host": next((value.decode() for name, value in head.headers if name == b"host"), None),
                "upgrades": [name.decode() for name in offered(head)],
                # Of a body that breaks the rules, more has been read the smaller the pieces were.
                "body": None if expected["body"] is None else body.decode(),
            }
            assert (size, {name: seen[name] for name in expected}) == (size, expected)


class Reference:
    """What llhttp, the parser of node, makes of a head."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # The head is whole: llhttp only says that what follows it is no HTTP.
        except httptools.HttpParserError:
            # Behind an empty line begins the next request, which is none.
            if not self.is_whole:
                raise

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_whole = True


NAMES = st.sampled_from(
    ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "X", "x-y", "X Y", "", "\x0b"]
)
VALUES = st.one_of(
    st.sampled_from(["3", "chunked", "gzip", "x", "upgrade", "close, upgrade", "h2c", " 3\t", "+3"]),
    st.text(st.characters(max_codepoint=255), max_size=5),
)
ENDS = st.sampled_from(["\r\n"] * 8 + ["\n", "\r"])


@given(
    st.sampled_from(["GET", "POST", "OPTIONS", "DELETE", "G\0T", ""]),
    st.sampled_from(["/", "/a?b", "http://x/y", "*", "x"]),
    st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", " :", ""]), VALUES, ENDS), max_size=4),
)
def test_no_more_is_accepted_than_by_llhttp(
    method: str, target: str, fields: list[tuple[str, str, str, str]]
) -> None:
    """A head that is accepted is accepted by llhttp as well, which reads the same fields."""
    text = f"{method} {target} HTTP/1.1\r\nHost: x\r\n" + "".join("".join(field) for field in fields) + "\r\n"
    data = text.encode("latin-1")
    read = Read([data])
    if not read.requests:
        return
    head = read.requests[0][0]
    reference = Reference(data)
    assert reference.is_whole
    assert reference.parser.get_method() == head.method.encode()
    assert [(name, value.strip()) for name, value in reference.headers if name != b"host"] == [
        field for field in head.headers if field[0] != b"host"
    ]


@pytest.mark.parametrize(
    ("target", "fields", "first"),
    [
        (b"http://b/a", b"X-A: 1\r\nx-a: 2\r\n", {b"host": b"b", b"x-a": b"1"}),
        (b"http://b/a", b"X-A: 1\r\n", {b"host": b"b", b"x-a": b"1"}),
        (b"/a", b"X-A: 1\r\nx-a: 2\r\n", {b"host": b"x", b"x-a": b"1"}),
        (b"/a", b"X-A: 1\r\n", {b"host": b"x", b"x-a": b"1"}),
    ],
)
def test_the_first_of_several_fields_with_a_name_is_found(
    target: bytes, fields: bytes, first: dict[bytes, bytes]
) -> None:
    """In lower case; a host in the target replaces the Host there, too."""
    reader = RequestReader(1000)
    reader.receive(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target, fields))
    head = reader.head()
    assert head is not None
    assert head.first == first


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_garbage_is_an_error_of_ours(data: bytes, size: int) -> None:
    """Nothing that is sent is an error of ours, and what is read of it does not depend on how it arrives."""
    for sent in (data, CHUNKED + data):
        assert Read(pieces_of(sent, size)).result == Read([sent]).result


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.integers(1, 30))
def test_a_body_is_the_content_of_its_chunks(chunks: list[bytes], size: int) -> None:
    """A body is the content of its chunks, and the next request begins behind it."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    (_, found), (_, _) = Read(pieces_of(CHUNKED + body + b"0\r\n\r\n" + GET, size)).result[0]
    assert found == b"".join(chunks)


@pytest.mark.parametrize("size", [1, 999, 100_000])
@pytest.mark.parametrize("excess", [0, 1])
def test_a_head_has_a_longest_length(size: int, excess: int) -> None:
    """A head is as long as allowed and no byte longer, however it is cut; what follows does not count."""
    head = GET[:-2] + b"X: %b\r\n\r\n" % (b"x" * (LIMIT - len(GET) - 5 + excess))
    assert len(head) == LIMIT + excess
    read = Read(pieces_of(head + GET, size))
    assert (len(read.requests), read.refused) == ((2, None) if not excess else (0, 431))


def test_the_number_of_fields_is_bounded() -> None:
    """Very short ones would be small in a head, and large in memory; trailers are dropped as they are read."""
    head = GET[:-2] + b"a:\r\n" * (FIELDS - 1)
    assert Read([head + b"\r\n"]).refused is None
    assert Read([head + b"a:\r\n\r\n"]).refused == 431
    assert Read([CHUNKED + b"0\r\n" + b"a:\r\n" * (FIELDS + 1) + b"\r\n"]).refused is None


def test_a_head_without_end_is_refused_early() -> None:
    """More bytes than a head may have are refused before its end is there."""
    assert Read([GET[:-2] + b"X: ", b"x" * LIMIT]).refused == 431


@pytest.mark.parametrize("size", [1, 999, 100_000])
def test_all_trailers_are_bounded_like_a_head(size: int) -> None:
    """All trailers together are bounded like a head."""
    trailer = b"X: y\r\n"
    count = (LIMIT - 2) // len(trailer)
    for more, refused in ((0, None), (1, 431)):
        data = CHUNKED + b"0\r\n" + trailer * (count + more) + b"\r\n"
        assert Read(pieces_of(data, size)).refused == refused
    assert Read(pieces_of(CHUNKED + b"0\r\nX: " + b"y" * LIMIT, size)).refused == 431


def test_a_long_line_before_a_chunk() -> None:
    """It is bounded also while its end is not there."""
    assert Read([CHUNKED + b"1;" + b"x" * CHUNK_LINE_BYTES]).refused == 400


@pytest.mark.parametrize("line", [b"1;", b"1;a=", b"1;a;", b'1;a="b', b'1;a="\\', b"1;=b", b"1;a=b;", b"1 ;"])
def test_an_extension_that_breaks_off_is_refused(line: bytes) -> None:
    """CPython before 3.11.5 took some for whole, by a fault of possessive groups in its patterns."""
    assert Read([CHUNKED + line + b"\r\nx\r\n0\r\n\r\n"]).refused == 400


def test_many_chunks_are_read_in_steps() -> None:
    """A step ends after a number of chunks, reports it, and the next one continues there."""
    reader = RequestReader(LIMIT)
    count = 3 * CHUNK_STEPS
    reader.receive(CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    assert reader.head() is not None
    parts = [reader.body()]
    while reader.has_stopped:
        assert not reader.is_whole
        parts.append(reader.body())
    assert reader.is_whole
    assert max(map(len, parts)) <= CHUNK_STEPS
    assert b"".join(parts) == b"x" * count


def test_the_beginning_of_a_chunk_is_waited_for() -> None:
    """A body that needs more bytes has not ended."""
    reader = RequestReader(LIMIT)
    reader.receive(CHUNKED + b"5\r\nab")
    assert reader.head() is not None
    assert reader.body() == b"ab"
    assert not reader.has_stopped


def test_unread_bytes_are_handed_over() -> None:
    """The bytes behind a request are handed over unchanged."""
    reader = RequestReader(LIMIT)
    reader.receive(GET + b"\x81\x00")
    assert reader.head() is not None
    assert reader.has_more
    assert reader.unread == b"\x81\x00"


def test_one_request_at_a_time() -> None:
    """Bytes behind a request are not read before the next request is asked for."""
    reader = RequestReader(LIMIT)
    reader.receive(GET + b"garbage\r\n\r\n")
    assert reader.head() is not None
    with pytest.raises(BadRequest):
        reader.head()


def test_a_long_head_in_pieces_is_refused_by_its_size() -> None:
    """The sentence names the option."""
    reader = RequestReader(10)
    reader.receive(GET)
    with pytest.raises(HeadTooLong, match="max_head_bytes"):
        reader.head()


def test_a_repeated_head_is_not_read_again() -> None:
    """It is the same value, with a body of its own; one in between is read, and a long one always."""
    post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    long = GET[:-2] + b"X: %b\r\n\r\n" % (b"x" * REPEATED_BYTES)
    data = post + b"ab" + post + b"cd" + GET + post + b"ef" + long + long
    read = Read([data], limit=2 * REPEATED_BYTES)
    assert [bytes(body) for _, body in read.requests] == [b"ab", b"cd", b"", b"ef", b"", b""]
    heads = [head for head, _ in read.requests]
    assert heads[0] is heads[1]
    assert [head.method for head in heads] == ["POST", "POST", "GET", "POST", "GET", "GET"]
    assert heads[4] == heads[5]
    assert heads[4] is not heads[5]
    few, many = (GET[:-2] + b"a:\r\n" * count + b"\r\n" for count in (REPEATED_FIELDS - 1, REPEATED_FIELDS))
    kept = [Read([each], limit=2 * REPEATED_BYTES).reader.keeps_head for each in (GET, few, long, many)]
    assert kept == [True, True, False, False]


@given(st.lists(st.sampled_from(REPEATED), max_size=8), st.integers(min_value=0, max_value=300))
def test_whole_requests_are_taken_as_they_are_read(requests: list[bytes], cut: int) -> None:
    """Requests that come in one piece each are the same as in any other pieces."""
    data = b"".join(requests)
    expected = Read([data]).result
    assert Read(requests).result == expected
    assert Read([each for each in (data[:cut], data[cut:]) if each]).result == expected


def test_only_a_whole_request_is_taken() -> None:
    """No other bytes change anything: fewer or more of them, a body in chunks, a head that is too long, what is buffered."""
    long = GET[:-2] + b"X: %b\r\n\r\n" % (b"x" * LIMIT)
    reader = RequestReader(LIMIT)
    others = (POST % b"c", POST % b"cde", GET[:-3], GET + GET, CHUNKED + b"0\r\n\r\n", b"\r\n" + GET, long)
    for other in others:
        assert reader.take(other) is None
        assert not reader.has_more
        taken = reader.take(POST % b"cd")
        assert taken
        assert (taken[0].method, taken[1], reader.is_whole, reader.has_more) == ("POST", b"cd", True, False)
    reader.receive(POST % b"")
    assert reader.head()
    assert reader.take(POST % b"cd") is None
    reader.receive(b"ab")
    assert reader.body() == b"ab"
    reader.receive(b"P")
    assert reader.take(POST % b"cd") is None
    assert reader.unread == b"P"


def test_a_repeated_head_is_known_as_such() -> None:
    """As one that is the same as the one before, or that has the form of the two before."""
    reader = RequestReader(LIMIT)
    requests = (
        POST % b"ab",
        POST % b"cd",
        *(SIZED % (b"%d" % size, b"1") + b"a" * size for size in (1, 2, 3, 12)),
        SIZED % (b"1", b"2") + b"a",
        SIZED % (b"2", b"2") + b"ab",
        GET,
    )
    found = []
    for request in requests:
        assert reader.take(request)
        found.append(reader.has_repeated)
    assert found == [False, True, False, False, True, True, False, False, False]


def test_a_fault_in_a_whole_request_is_refused() -> None:
    with pytest.raises(BadRequest):
        RequestReader(LIMIT).take(b"GET /a HTTP/1.1\r\n\r\n")


def test_a_taken_request_may_have_one_empty_line_before_and_after_it() -> None:
    """A client may send one before each request, and no more (RFC 9112, 2.2)."""
    read = Read([POST % b"ab", b"\r\n", POST % b"cd", b"\r\n", POST % b"ef"])
    assert [bytes(body) for _, body in read.requests] == [b"ab", b"cd", b"ef"]
    assert read.refused is None


def test_a_head_with_a_longer_length_may_be_too_long() -> None:
    """Also if only the length of the body has changed, and its request comes in one piece."""
    short = SIZED % (b"1", b"1")
    reader = RequestReader(len(short) + 1)
    reader.receive(short + b"a")
    assert reader.head()
    assert reader.body() == b"a"
    assert reader.take(SIZED % (b"10", b"1") + b"a" * 10)
    assert reader.take(SIZED % (b"100", b"1") + b"a" * 100) is None
    reader.receive(SIZED % (b"100", b"1") + b"a" * 100)
    with pytest.raises(HeadTooLong):
        reader.head()
