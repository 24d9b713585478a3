"""The private messages that a page of the demo loads when it connects."""

from collections.abc import Callable

from httpx import Client

from channelstream.demo.private import KEPT, LOADED, PrivateMessages
from channelstream.demo.visitors import Visitor


def texts(browser: Client, **body: object) -> list[str]:
    return [event["message"]["text"] for event in browser.post("/demo/connect", json=body).json()["private"]]


def write(browser: Client, to: str, text: str) -> str:
    return browser.post("/demo/message", json={"to": to, "text": text}).json()[0]["uuid"]


def test_author_and_recipient_load_private_messages(browser: Client, other_browser: Client) -> None:
    """Author and recipient get them in order with each connect, as they are after edits and deletes."""
    assert texts(browser, username="ann") == texts(other_browser, username="bob") == []
    first, second, _ = (write(browser, "bob", text) for text in ("one", "two", "three"))
    browser.patch("/demo/message", json={"uuid": first, "text": "ONE"})
    browser.request("DELETE", "/demo/message", json={"uuid": second})
    write(other_browser, "ann", "four")
    assert texts(browser) == texts(other_browser) == ["ONE", "three", "four"]


def test_nobody_else_loads_private_messages(
    browser: Client, other_browser: Client, open_browser: Callable[..., Client]
) -> None:
    """A third visitor does not, nor one who gets a name after it was free, nor the same browser under another name."""
    texts(browser, username="ann")
    texts(other_browser, username="bob")
    write(browser, "bob", "for bob")
    write(browser, "zoe", "for nobody yet")
    assert texts(open_browser(), username="zoe") == []
    other_browser.post("/demo/leave", json={})
    write(browser, "bob", "bob has left")
    assert texts(open_browser(), username="bob") == []
    assert texts(browser, username="annie") == []
    assert texts(browser, username="ann") == ["for bob", "for nobody yet", "bob has left"]


def test_a_channels_messages_are_not_among_them(browser: Client) -> None:
    """Channels have their own history."""
    texts(browser, username="ann")
    browser.post("/demo/message", json={"channel": "demo-general", "text": "to all"})
    assert texts(browser) == []


def test_the_oldest_are_forgotten() -> None:
    """The table has a bound, and so has what a page loads; an edit of a forgotten message brings nothing back."""
    ann = Visitor("1", "ann")
    table = PrivateMessages()
    for number in range(KEPT + 1):
        table.add({"uuid": str(number), "message": {}}, frozenset({ann}))
    table.amend({"uuid": "0", "message": {"text": "again"}})
    assert [event["uuid"] for event in table.of(ann)] == [
        str(number) for number in range(KEPT + 1 - LOADED, KEPT + 1)
    ]
    for number in range(1, KEPT - 1):
        table.remove(str(number))
    assert [event["uuid"] for event in table.of(ann)] == [str(KEPT - 1), str(KEPT)]
