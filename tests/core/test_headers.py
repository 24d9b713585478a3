"""Header fields of a request: looked up by name, and read as lists."""

from channelstream.core.headers import header, items, joined

HEADERS = [(b"a", b"1"), (b"b", b"2"), (b"b", b" 3,\t, 4 ")]


def test_the_first_header_of_a_name_counts() -> None:
    """None where there is none."""
    assert header(HEADERS, b"b") == b"2"
    assert header(HEADERS, b"c") is None


def test_all_fields_of_a_name_are_one_list() -> None:
    """Blanks around an item, and empty items, do not count (RFC 9110, 5.3 and 5.6.1)."""
    assert items(joined(HEADERS, b"b")) == ["2", "3", "4"]
    assert items(joined(HEADERS, b"c")) == []
