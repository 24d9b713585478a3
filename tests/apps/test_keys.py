"""Keys: two applications never share one, and each has its name in it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channelstream.apps.app import App
from channelstream.apps.keys import (
    DEFAULT,
    IN_CHANNEL,
    MARK,
    app_id_of,
    is_member_key,
    make_key,
    make_member_key,
    name_of,
)
from channelstream.core.events import Message, MessageDeleted, MessageEdited

APP_IDS = st.sampled_from([DEFAULT, "shop", "shop2"])
NAMES = st.lists(st.sampled_from(["a", "shop", MARK, "\x1e", ""]), max_size=5).map("".join) | st.text()


@given(APP_IDS, NAMES)
def test_a_key_has_its_application_and_its_name(app_id: str, name: str) -> None:
    """Whatever the name contains."""
    key = make_key(app_id, name)
    assert (app_id_of(key), name_of(key)) == (app_id, name)
    assert App(app_id).owns(key)


@given(APP_IDS, NAMES, APP_IDS, NAMES)
def test_no_two_names_have_one_key(app_id: str, name: str, other_id: str, other: str) -> None:
    """In one application, or in two."""
    same = (app_id, name) == (other_id, other)
    assert (make_key(app_id, name) == make_key(other_id, other)) is same


CHANNELS = st.lists(st.sampled_from(["a", "shop", "\x1e", ""]), max_size=4).map("".join)


@given(APP_IDS, CHANNELS, NAMES)
def test_the_key_of_a_member_has_its_application_and_its_name(app_id: str, channel: str, name: str) -> None:
    """As other keys have; and it shows that it is that of a member."""
    key = make_member_key(app_id, channel, name)
    assert (app_id_of(key), name_of(key), is_member_key(key)) == (app_id, name, True)
    assert App(app_id).member_key(channel, name) == key


@given(st.tuples(APP_IDS, CHANNELS, NAMES), st.tuples(APP_IDS, CHANNELS, NAMES))
def test_no_two_members_have_one_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """In one channel, or in two."""
    assert (make_member_key(*one) == make_member_key(*other)) is (one == other)


@given(APP_IDS, NAMES, APP_IDS, CHANNELS)
@example(DEFAULT, f"a{IN_CHANNEL}", DEFAULT, "")
def test_no_name_has_the_key_of_a_member(app_id: str, name: str, other_id: str, channel: str) -> None:
    """Else an application could send messages to a member as if it were a user."""
    key = make_key(app_id, name)
    assert not is_member_key(key)
    assert key != make_member_key(other_id, channel, name_of(key))


def test_the_channel_of_a_member_has_no_mark() -> None:
    """The key would be taken for that of another member."""
    with pytest.raises(ValueError, match="cannot have this name"):
        make_member_key(DEFAULT, f"a{MARK}b", "ann")


@pytest.mark.parametrize("name", ["", "room", "a/b", f"a{MARK}b", "default", "é"])
def test_a_key_of_the_default_application_is_the_name(name: str) -> None:
    """So its stores look as they did before there were applications."""
    assert make_key(DEFAULT, name) == name


@pytest.mark.parametrize("key", [MARK, f"{MARK}room"])
def test_a_text_that_is_no_key_is_a_name_of_the_default_application(key: str) -> None:
    """An older version may have stored one."""
    assert (app_id_of(key), name_of(key)) == (DEFAULT, key)


@pytest.mark.parametrize("app_id", ["", "A", "-a", "a b", f"a{MARK}", "a" * 33, "é"])
def test_an_id_is_short_and_plain(app_id: str) -> None:
    """It is in every key."""
    with pytest.raises(ValueError, match="an id has"):
        App(app_id)


def test_an_event_is_keyed_whole() -> None:
    """Its channel, its author and the users that it names; a value that is missing stays so."""
    key = App("shop").key
    sent = Message(
        uuid="m",
        channel="room",
        user="ann",
        payload=b"1",
        timestamp="t",
        only=frozenset("a"),
        exclude=frozenset("b"),
        exclude_connection="c",
    )
    assert App("shop").keyed(sent) == Message(
        uuid="m",
        channel=key("room"),
        user=key("ann"),
        payload=b"1",
        timestamp="t",
        only=frozenset({key("a")}),
        exclude=frozenset({key("b")}),
        exclude_connection=key("c"),
    )
    edited = MessageEdited(uuid="m", edited="t", only=frozenset("a"))
    assert App("shop").keyed(edited) == MessageEdited(uuid="m", edited="t", only=frozenset({key("a")}))
    deleted = MessageDeleted(uuid="m", channel="room")
    assert App("shop").keyed(deleted) == MessageDeleted(uuid="m", channel=key("room"))


ODD = f"{MARK}x"
USUAL = Message(uuid="m", channel="room", user="ann", payload=b"1", timestamp="t")
ODD_EVENTS = [
    Message(uuid="m", channel=ODD, user="ann", payload=b"1", timestamp="t"),
    Message(uuid="m", channel="room", user=ODD, payload=b"1", timestamp="t"),
    Message(uuid="m", user="ann", payload=b"1", timestamp="t", only=frozenset({"a", ODD})),
    MessageEdited(uuid="m", channel="room", edited="t", user=ODD),
    MessageDeleted(uuid="m", channel="room", exclude=frozenset({ODD})),
]


def test_an_event_of_the_default_application_mostly_stays_the_same_object() -> None:
    """Publishing copies no event, unless a name of it begins as other keys do."""
    app = App()
    for event in (USUAL, MessageEdited(uuid="m", edited="t"), MessageDeleted(uuid="m", channel="room")):
        assert app.keyed(event) is event
    for event in ODD_EVENTS:
        keyed = app.keyed(event)
        names = [keyed.channel, getattr(keyed, "user", None), *(keyed.only or ()), *(keyed.exclude or ())]
        assert [name for name in names if name and name.startswith(MARK)] == [app.key(ODD)]
