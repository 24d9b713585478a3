"""The table of all protocols: their formats, which the hub is given, and their sessions."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from channelstream.apps.grants import NO_GRANTS
from channelstream.core.client_protocol import ClientProtocol, PresenceAudience
from channelstream.core.entry import Entry
from channelstream.core.events import Event, Message, UserStateChanged
from channelstream.wire.channelstream import SEED, V07, catchup_item, item, protocols
from channelstream.wire.client_session import WireProtocol
from channelstream.wire.commanding import COMMANDING
from channelstream.wire.framing import Framing
from channelstream.wire.protocols import PROTOCOLS, Protocols
from channelstream.wire.pusher import PUSHER

FORMATS = PROTOCOLS.formats


def entry() -> Entry:
    return entry_of(Message(uuid="m", channel="a", user="ann", payload=b"1", timestamp="t"))


def entry_of(event: Event) -> Entry:
    return Entry(7, ("e",), 0.0, event)


def test_every_format_is_at_its_number() -> None:
    """The hub finds a format by the number that it says of itself, in whatever order the rows are given."""
    own = list(protocols(number=0, form=0))
    for rows in (own, own[::-1]):
        assert [format_.number for format_ in Protocols(rows).formats] == list(range(2 * len(Framing)))


def test_formats_that_share_a_number_are_refused() -> None:
    """A batch would send the clients of one the bytes of the other; a gap would be a hole in the hub's table."""
    (own, _), (_, other) = protocols(number=0, form=0), protocols(number=0, form=2)
    (again, _) = protocols(number=0, form=0)
    clash = WireProtocol(ClientProtocol("x", V07.presence), "x", again.formats, own.session, own.text)
    with pytest.raises(ValueError, match="number"):
        Protocols([own, clash])
    with pytest.raises(ValueError, match="number"):
        Protocols([other])


def test_a_format_has_the_name_of_its_transport() -> None:
    """The admin pages show it."""
    names = {"WebSocket", "WebSocket, compressed", "SSE", "long poll"}
    assert {format_.name for format_ in FORMATS} == names


@pytest.mark.parametrize(("protocol", "framing"), list(product((SEED, V07), Framing)))
def test_a_format_is_that_of_its_protocol_and_transport(protocol: ClientProtocol, framing: Framing) -> None:
    """Its items are those of the protocol, live and after an absence."""
    format_, each = PROTOCOLS.format_of(protocol, framing), entry()
    assert FORMATS[format_.number] is format_
    assert format_.item(each) == item(each, protocol)
    assert PROTOCOLS.session_of(protocol, framing).catchup_item(each) == catchup_item(each, protocol)


def test_formats_with_one_form_share_their_items_and_others_do_not() -> None:
    """Also beside a protocol whose forms have higher numbers: each keeps its own, in whatever order they are made."""
    each = entry()
    rows = list(protocols(number=len(FORMATS), form=1 + max(format_.form for format_ in FORMATS)))
    further = [format_ for row in rows for format_ in row.formats.values()]
    made = {format_.number: format_.item(each) for format_ in (*further, *FORMATS)}
    for one, other in product((*FORMATS, *further), repeat=2):
        assert (made[one.number] is made[other.number]) is (one.form == other.form)
        assert one.item(each) is made[one.number]


def test_each_protocol_has_forms_of_its_own() -> None:
    """Two that used one number would be sent each other's items."""
    forms = {
        protocol: {PROTOCOLS.format_of(protocol, framing).form for framing in Framing}
        for protocol in (SEED, V07)
    }
    assert not forms[SEED] & forms[V07]
    of_pusher = {PROTOCOLS.format_of(PUSHER, framing).form for framing in Framing if framing.is_websocket}
    assert not of_pusher & (forms[SEED] | forms[V07])
    assert forms[SEED] | forms[V07] | of_pusher == {format_.form for format_ in FORMATS}


def test_an_item_that_is_not_sent_is_none() -> None:
    """A format may leave events out."""
    nothing: Callable[[Any], bytes | None] = lambda _: None  # noqa: E731
    assert entry().item(3, nothing) is None


def test_clients_of_both_generations_can_come_back() -> None:
    """Their connections outlive a stream by the grace period."""
    assert PROTOCOLS.resumes(SEED)
    assert PROTOCOLS.resumes(V07)
    assert not {SEED.name, V07.name} & PROTOCOLS.not_resuming


def test_the_protocols_whose_clients_cannot_come_back_are_named() -> None:
    """No connection of theirs outlives a restart."""
    seed, v07 = protocols(number=0, form=0)
    assert Protocols([replace(seed, resumes=False), v07]).not_resuming == {SEED.name}


def test_a_protocol_of_a_later_version_is_not_spoken() -> None:
    """People see the name that a node of that version has stored."""
    later = ClientProtocol("v99", PresenceAudience.IF_ANNOUNCED)
    for framing in Framing:
        assert PROTOCOLS.is_spoken(SEED, framing)
        assert PROTOCOLS.is_spoken(V07, framing)
        assert not PROTOCOLS.is_spoken(later, framing)
    assert not PROTOCOLS.is_known(later)
    assert PROTOCOLS.title_of(later) == "v99"
    assert {PROTOCOLS.title_of(protocol) for protocol in (SEED, V07)} == {"first generation", "0.7"}


def test_each_protocol_says_what_its_clients_are_sent() -> None:
    """Whatever encloses it: as JSON, and None of an event of which they are sent nothing."""
    said = Message(uuid="m", channel="room", user="ann", payload=b"1", timestamp="t")
    changed = UserStateChanged(uuid="s", channel="room", user="ann", timestamp="t", state={}, changed=())
    for protocol in (SEED, V07, COMMANDING):
        for event in (said, changed):
            poll = PROTOCOLS.format_of(protocol, Framing.POLL)
            assert PROTOCOLS.text_of(protocol, entry_of(event)) == poll.item(entry_of(event))
    assert PROTOCOLS.text_of(PUSHER, entry_of(said)) == b'{"event":"message","channel":"room","data":"1"}'
    assert PROTOCOLS.text_of(PUSHER, entry_of(changed)) is None


def test_a_protocol_is_spoken_on_the_transports_that_it_has_formats_for() -> None:
    """A stream on any other transport is refused, and finds no format."""
    own, _ = protocols(number=0, form=0)
    first = {framing: own.formats[framing] for framing in Framing if own.formats[framing].number < 2}
    table = Protocols([WireProtocol(SEED, "x", first, own.session, own.text)])
    assert {framing for framing in Framing if table.is_spoken(SEED, framing)} == set(first) < set(Framing)


def test_only_some_protocols_grant_commands_without_a_token() -> None:
    """None of the server's own ones."""
    assert {PROTOCOLS.grants_of(protocol) for protocol in (SEED, V07, COMMANDING)} == {NO_GRANTS}
