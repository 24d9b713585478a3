"""The opening handshake: what RFC 6455 section 4.2 requires, and the answer to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.http_head import RequestHead, first_values
from channelstream.errors import BadHandshake, UnsupportedVersion
from channelstream.wire.handshake import (
    Handshake,
    Offer,
    accept,
    accept_key,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GOOD = {
    b"host": b"server.example.com",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-key": KEY,
    b"sec-websocket-version": b"13",
}


def request(*more: tuple[bytes, bytes], without: bytes = b"", **changed: bytes) -> RequestHead:
    """Return the RFC's own request with some fields changed, left out or added."""
    fields = GOOD | {name.replace("_", "-").encode(): value for name, value in changed.items()}
    headers = [(name, value) for name, value in fields.items() if name != without] + list(more)
    return RequestHead(
        method="GET",
        version="1.1",
        path="/ws",
        raw_path=b"/ws",
        query=b"",
        headers=headers,
        first=first_values(headers),
        body_bytes=0,
        keep_alive=True,
        expects_continue=False,
        upgrade=b"websocket",
        client=None,
        scheme="http",
    )


def offers(*values: bytes) -> tuple[Offer, ...]:
    return accept(request(*((b"sec-websocket-extensions", value) for value in values))).offers


def test_the_key_is_accepted_as_in_the_rfc():
    """The RFC's own example (section 1.3)."""
    assert accept_key(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_request_of_the_rfc_is_accepted():
    """The RFC's own request is accepted, without extensions."""
    assert accept(request()) == Handshake(KEY, ())


@pytest.mark.parametrize(
    ("head", "field"),
    [
        (request(without=b"sec-websocket-key"), "Key"),
        (request(sec_websocket_key=b"short"), "Key"),
        (request(sec_websocket_key=b"c2hvcnQ="), "Key"),
        (request(sec_websocket_key=b"*" * 24), "Key"),
        (request((b"sec-websocket-key", KEY)), "Key"),
    ],
)
def test_a_faulty_field_is_refused_by_name(head, field):
    """A missing, wrong or doubled field of section 4.2.1 is answered 400, with a text that names it."""
    with pytest.raises(BadHandshake, match=field) as caught:
        accept(head)
    assert (caught.value.http_status, caught.value.headers) == (400, ())


@pytest.mark.parametrize(
    "head",
    [
        request(without=b"sec-websocket-version"),
        request(sec_websocket_version=b"8"),
        request((b"sec-websocket-version", b"13")),
    ],
)
def test_another_version_is_answered_with_ours(head):
    """Another version is answered 426 with the supported one (section 4.4, RFC 9110 section 15.5.22)."""
    with pytest.raises(UnsupportedVersion) as caught:
        accept(head)
    assert caught.value.http_status == 426
    assert (b"sec-websocket-version", b"13") in caught.value.headers
    assert (b"upgrade", b"websocket") in caught.value.headers


def test_extensions_are_read_in_the_order_of_the_client():
    """Extensions are read in the client's order, over several fields, with their values (section 9.1)."""
    assert offers(b"a, b; x; y=1", b'c ;z = "2"; q="\\3"') == (
        Offer("a", ()),
        Offer("b", (("x", None), ("y", "1"))),
        Offer("c", (("z", "2"), ("q", "3"))),
    )


def test_empty_items_of_a_list_do_not_count():
    """Empty items of a list do not count (RFC 9110 section 5.6.1)."""
    assert offers(b"", b" , a,, ") == (Offer("a", ()),)


def test_a_semicolon_at_the_end_does_not_count():
    """A parameter that is empty does not count: some clients send one behind the last."""
    assert offers(b"a;", b"b; x=1 ; ;") == (Offer("a", ()), Offer("b", (("x", "1"),)))


@pytest.mark.parametrize(
    "value", [b"a b", b"a; =1", b"a; x=", b'a; x=""', b'a; x="1', b"\xe9", b";x", b'a; x="1 2"']
)
def test_a_malformed_extension_fails_the_handshake(value):
    """A malformed extension header fails the handshake (section 9.1)."""
    with pytest.raises(BadHandshake, match="Extensions"):
        offers(value)


def test_very_many_offers_are_not_read():
    """They would cost as much as a hundred requests: a longer list than any client sends is refused."""
    offer = b"abcdefg,"
    assert len(offers(offer * 128)) == 128
    with pytest.raises(BadHandshake, match="1024"):
        offers(offer * 128, b"a")


def test_the_answer_is_that_of_the_rfc():
    """The whole head of the answer in the RFC's own example (section 1.3)."""
    assert accept(request()).response() == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_response_with_extension():
    """The agreed extension is the last field of the answer."""
    head = accept(request()).response("permessage-deflate; server_no_context_takeover")
    assert head.endswith(
        b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
    )


@given(
    st.lists(
        st.tuples(st.sampled_from([*GOOD, b"sec-websocket-extensions"]), st.binary(max_size=40)), max_size=8
    )
)
def test_random_headers_are_accepted_or_refused(headers):
    """Whatever the fields hold, a request is accepted or refused with an error of ours."""
    try:
        assert accept(request(*headers)).response().endswith(b"\r\n\r\n")
    except BadHandshake as refusal:
        assert refusal.http_status in (400, 426)
