"""Reading the forms of pages."""

import pytest

from channelstream.pages.form import MAX_FIELDS, read_form


def test_the_fields_of_a_form_are_decoded() -> None:
    assert read_form(b"name=caf%C3%A9+au+lait&kind=user") == {"name": "café au lait", "kind": "user"}


@pytest.mark.parametrize("body", [b"", b"name=\xff", b"&".join([b"name=x"] * (MAX_FIELDS + 1))])
def test_a_malformed_form_has_no_fields(body: bytes) -> None:
    assert read_form(body) == {}
