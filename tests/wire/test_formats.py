"""The table of all formats, which the hub is given."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.events import Message
from channelstream.core.log import Entry
from channelstream.wire.channelstream import DIALECTS, SEED, V07, Framing, catchup_item, formats, item
from channelstream.wire.formats import FORMATS, format_of, is_known


def entry() -> Entry:
    return Entry(7, "e-7", 0.0, Message(uuid="m", channel="a", user="ann", payload=b"1", timestamp="t"))


def test_every_format_is_at_its_number() -> None:
    """The hub finds a format by the number that it says of itself."""
    assert [format_.number for format_ in FORMATS] == list(range(len(FORMATS)))


def test_a_format_has_the_name_of_its_transport() -> None:
    """The admin pages show it."""
    names = {"WebSocket", "WebSocket, compressed", "SSE", "long poll"}
    assert {format_.name for format_ in FORMATS} == names


@pytest.mark.parametrize(("protocol", "framing"), list(product((SEED, V07), Framing)))
def test_a_format_is_that_of_its_protocol_and_transport(protocol: ClientProtocol, framing: Framing) -> None:
    """Its items are those of the dialect, live and after an absence."""
    format_, each, dialect = format_of(protocol, framing), entry(), DIALECTS[protocol.name]
    assert FORMATS[format_.number] is format_
    assert format_.item(each) == item(each, dialect)
    assert format_.catchup_item(each) == catchup_item(each, dialect)


def test_formats_with_one_form_share_their_items_and_others_do_not() -> None:
    """Also beside a protocol whose forms have higher numbers: each keeps its own, in whatever order they are made."""
    each = entry()
    further = list(formats(number=len(FORMATS), form=1 + max(format_.form for format_ in FORMATS)))
    made = {format_.number: format_.item(each) for format_ in (*further, *FORMATS)}
    for one, other in product((*FORMATS, *further), repeat=2):
        assert (made[one.number] is made[other.number]) is (one.form == other.form)
        assert one.item(each) is made[one.number]


def test_each_protocol_has_forms_of_its_own() -> None:
    """Two that used one number would be sent each other's items."""
    forms = {protocol: {format_of(protocol, framing).form for framing in Framing} for protocol in (SEED, V07)}
    assert not forms[SEED] & forms[V07]
    assert forms[SEED] | forms[V07] == {format_.form for format_ in FORMATS}


def test_an_item_that_is_not_sent_is_none() -> None:
    """A format may leave events out."""
    nothing: Callable[[Any], bytes | None] = lambda _: None  # noqa: E731
    assert entry().item(3, nothing) is None


def test_a_protocol_of_a_later_version_is_not_known() -> None:
    assert is_known(SEED)
    assert is_known(V07)
    assert not is_known(ClientProtocol("v99", PresenceAudience.IF_ANNOUNCED))
