"""What streams say: items, closings and refusals, read without I/O."""

import pytest

from channelstream_client.protocol import LOST, StreamEnded, closing_of, items_of, refused, without_id


def test_refusal_says_why_in_its_body() -> None:
    """The close code of the server's own answer counts before the status; a proxy's page does not."""
    own = refused(503, "7", b'{"error": "slow", "close_code": 4008}', 0.0)
    assert (own.code, own.reason, own.retry_after_s, own.status) == (4008, "slow", 7, None)
    for body in (b"<html>", b"[]", b'{"close_code": "4008"}', b"\xff", b""):
        assert (refused(503, "", body, 0.0).code, refused(404, "", body, 0.0).status) == (1013, 404)


@pytest.mark.parametrize(
    ("status", "code"), [(401, 4001), (409, 4002), (429, 1013), (503, 1013), (404, LOST), (502, LOST)]
)
def test_status_without_a_code_has_a_meaning(status: int, code: int) -> None:
    """An HTTP status instead of a stream says the same as a close code."""
    assert refused(status, "", b"", 0.0).code == code


def test_date_of_a_refusal_counts_from_its_arrival() -> None:
    """A `Retry-After` with a date is a wait from the time of the answer."""
    assert refused(503, "Thu, 01 Jan 1970 00:16:45 GMT", b"", 1000.0).retry_after_s == 5


@pytest.mark.parametrize("text", ["<html>", "{}", "[1]", "[[]]", "null", "", b"\xff", "[" * 10])
def test_other_texts_are_a_lost_stream(text: str | bytes) -> None:
    """A proxy's page, and JSON of another program, are no items."""
    with pytest.raises(StreamEnded, match="not a list of items") as caught:
        items_of(text)
    assert caught.value.code == LOST


def test_closing_item_names_the_code() -> None:
    """A `closing` item anywhere in a list is the end of the stream; a malformed one is a lost stream."""
    end = closing_of([{"type": "message"}, {"type": "closing", "code": 4008, "reason": "too slow"}])
    assert end is not None
    assert (end.code, end.reason) == (4008, "too slow")
    assert closing_of([{"type": "message"}]) is None
    malformed = closing_of([{"type": "closing", "code": "4008"}])
    assert malformed is not None
    assert malformed.code == LOST


def test_ids_are_masked() -> None:
    """A text that quotes the address of a stream shows no connection id."""
    assert without_id("GET /sse?conn_id=secret&since=e-1 'x?conn_id=s'") == (
        "GET /sse?conn_id=...&since=e-1 'x?conn_id=...'"
    )
