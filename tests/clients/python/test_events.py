"""The golden items of the wire, read by the Python client."""

import json
from pathlib import Path
from typing import Any

import pytest

from channelstream_client import BadAnswer, OtherEvent, Presence, Resumed, UserStateChanged
from channelstream_client.events import read_event
from channelstream_client.protocol import StreamEnded, items_of

VECTORS = json.loads(
    Path(__file__).parents[3].joinpath("spec/vectors/items.json").read_text(encoding="utf-8")
)
ITEMS = [
    pytest.param(item[protocol][form], id=f"{item['name']}-{protocol}-{form}")
    for item in VECTORS["items"]
    for protocol in ("seed", "v07")
    for form in ("live", "catchup")
    if item.get(protocol, {}).get(form)
]


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_of_the_wire_is_read(item: dict[str, Any]) -> None:
    """Each event of both protocols becomes one of this client, with its position."""
    event = read_event(item)
    assert not isinstance(event, OtherEvent)
    assert event.position == VECTORS["position"]


def test_presence_is_the_same_in_both_protocols() -> None:
    """`join` and `part` of the seed are `joined` and `parted`."""
    for item in VECTORS["items"]:
        if item["event"]["kind"] == "Presence":
            seed, v07 = read_event(item["seed"]["live"]), read_event(item["v07"]["live"])
            assert isinstance(seed, Presence) and isinstance(v07, Presence)
            assert (seed.action, seed.user) == (v07.action, v07.user)


def test_changed_state_is_unpacked() -> None:
    """A change of state has the whole state and the keys that changed."""
    (item,) = (item for item in VECTORS["items"] if item["event"]["kind"] == "UserStateChanged")
    event = read_event(item["v07"]["live"])
    assert isinstance(event, UserStateChanged)
    assert event.state["away"] is True
    assert [change.key for change in event.changed] == ["color", "status"]


def test_resumed_is_read() -> None:
    """The first item of a stream names recovered and lost channels."""
    event = read_event(VECTORS["control"]["resumed"])
    assert event == Resumed(position="k3f9a1-7", recovered=["a", "b"], lost=["c"])


def test_unknown_kind_is_handed_on() -> None:
    """An event of a later server is not an error."""
    assert read_event({"type": "poke", "position": "p"}) == OtherEvent(
        position="p", type="poke", data={"type": "poke", "position": "p"}
    )


@pytest.mark.parametrize(
    "item", [None, [], "text", {"type": "message"}, {"type": "message", "uuid": "u", "user": 1}]
)
def test_a_malformed_event_is_refused(item: Any) -> None:
    """An item without a required key is an error of this client, not a TypeError."""
    with pytest.raises(BadAnswer):
        read_event(item)


@pytest.mark.parametrize("text", ["", "{}", "<html>", "null", "[[]"])
def test_a_body_that_is_no_list_comes_from_a_proxy(text: str) -> None:
    """A page of a proxy in place of items means that this transport does not get through."""
    with pytest.raises(StreamEnded):
        items_of(text)
