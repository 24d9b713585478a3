"""Heads of requests that need not be read, as they have the form of the one before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_http_reader import GET, SIZED

from channelstream.core.http_head import RequestHead, read_head
from channelstream.core.http_head_form import are_alike, form_of, in_form

TRACED = b"POST /a HTTP/1.1\r\nTraceparent: %b\r\nHost: x\r\ncontent-LENGTH: \t%b \r\nX: %b\r\nX-Request-Id:%b\r\n\r\n"


def in_form_of(data: bytes, before: bytes) -> RequestHead | None:
    """Return a head that is not read, but taken for one with the form of another; None if it has to be read."""
    head = read_head(before, ("10.0.0.1", 1), "https")
    return in_form(data, form_of(before, head), head)


@pytest.mark.parametrize("value", [b"0", b"7", b"12345", b"007", b"9" * 18])
@pytest.mark.parametrize("id_", [b"", b" ", b"\t 1 2\t", b"a" * 100])
def test_a_head_with_other_values_of_changing_fields_is_not_read_again(value: bytes, id_: bytes) -> None:
    """It is what would be read of it, the fields included."""
    other = TRACED % (b"\xe9", value, b"content-length: 5", id_)
    expected = read_head(other, ("10.0.0.1", 1), "https")
    assert in_form_of(other, TRACED % (b"1", b"12", b"content-length: 5", b"2")) == expected


@pytest.mark.parametrize(
    ("other", "before"),
    [
        (SIZED % (b"", b"1"), SIZED % (b"1", b"1")),
        (SIZED % (b"9" * 19, b"1"), SIZED % (b"1", b"1")),
        (SIZED % (b"-1", b"1"), SIZED % (b"1", b"1")),
        (SIZED % (b"1\r\nContent-Length: 1", b"1"), SIZED % (b"1", b"1")),
        (SIZED % (b"2", b"2"), SIZED % (b"1", b"1")),
        ((SIZED % (b"2", b"1")).replace(b"/a", b"/b"), SIZED % (b"1", b"1")),
        (TRACED % (b"1", b"1", b"1", b"\x0b"), TRACED % (b"1", b"1", b"1", b"1")),
        (TRACED % (b"1", b"1", b"1", b"\n"), TRACED % (b"1", b"1", b"1", b"1")),
        ((TRACED % (b"1", b"1", b"1", b"1"))[:-2], TRACED % (b"1", b"1", b"1", b"1")),
        ((TRACED % (b"1", b"1", b"1", b"1"))[:25], TRACED % (b"1", b"1", b"1", b"1")),
        (GET.replace(b"/a", b"/b"), GET),
        (GET + b"X: 1\r\n", GET),
        (b"", SIZED % (b"1", b"1")),
    ],
)
def test_any_other_head_is_read(other: bytes, before: bytes) -> None:
    assert in_form_of(other, before) is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://y/a HTTP/1.1\r\nDate: %b\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nDate: 1\r\nHost: x\r\nDate: %b\r\n\r\n",
    ],
)
def test_a_head_whose_fields_are_not_its_lines_is_read(head: bytes) -> None:
    """With a host in its target, or with a name twice."""
    assert in_form_of(head % b"2", head % b"1") is None


@given(
    st.integers(min_value=0, max_value=120),
    st.integers(min_value=0, max_value=4),
    st.text("0123456789 \t\r\n\x0b:-aX", max_size=8),
)
def test_what_is_not_read_again_is_what_would_be_read(at: int, cut: int, put: str) -> None:
    """Wherever a head differs from the one before, and however it does."""
    before = TRACED % (b"1", b"12", b"1", b"2")
    data = before[:at] + put.encode() + before[at + cut :]
    found = in_form_of(data, before)
    assert found is None or found == read_head(data, ("10.0.0.1", 1), "https")


def test_heads_are_alike_but_for_changing_fields() -> None:
    """So the form of the last one is worth to be known."""
    one = read_head(TRACED % (b"1", b"1", b"1", b"1"))
    others = (
        TRACED % (b"2", b"3", b"1", b"4"),
        TRACED % (b"1", b"1", b"2", b"1"),
        (TRACED % (b"1", b"1", b"1", b"1")).replace(b"/a", b"/b"),
        SIZED % (b"1", b"1"),
    )
    assert [are_alike(read_head(each), one) for each in others] == [True, False, False, False]
