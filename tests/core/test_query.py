"""Query strings: read whole or not at all."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelstream.core.query import MAX_FIELDS, read_query


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (b"", {}),
        (b"conn_id=a&since=", {"conn_id": "a", "since": ""}),
        (b"since", {"since": ""}),
        (b"a=1&a=2", {"a": "1"}),
        (b"a=%C5%82+b%26", {"a": "ł b&"}),
        (b"a=%zz&b=2", {"a": "%zz", "b": "2"}),
    ],
)
def test_parameters_are_decoded(query: bytes, parameters: dict[str, str]) -> None:
    """Blank values stay; of a repeated parameter the first counts."""
    assert read_query(query) == parameters


def test_too_many_parameters_are_refused() -> None:
    """Their number is bounded before they are read."""
    assert len(read_query(b"&".join(b"k%d=1" % number for number in range(MAX_FIELDS)))) == MAX_FIELDS
    for field in (b"a=1", b"%61=1"):
        assert read_query(b"&".join([field] * (MAX_FIELDS + 1))) == {}


@given(st.text(alphabet="ab=&%+;4\xe9", max_size=24))
def test_escapes_do_not_change_how_the_rest_is_read(text: str) -> None:
    """A query without any is read in a shorter way, and alike."""
    query = text.encode("latin-1")
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    assert read_query(query) == dict(reversed(pairs))


@given(st.binary(max_size=64))
def test_no_bytes_raise(query: bytes) -> None:
    """Every text of a client is read or refused."""
    assert isinstance(read_query(query), dict)
