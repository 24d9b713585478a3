"""Applications: which a server has."""

import pytest

from channelstream.apps.app import App, Apps
from channelstream.apps.keys import DEFAULT, MARK


def test_the_applications_of_a_server_are_the_default_one_and_the_further_ones() -> None:
    """In this order."""
    apps = Apps(App(), App("shop"), App("blog"))
    assert [app.id for app in apps] == [DEFAULT, "shop", "blog"]
    assert apps.default.id == DEFAULT


def test_a_key_has_an_owner() -> None:
    """The application that made it."""
    apps = Apps(App(), App("shop"))
    assert [apps.owner(app.key("room")) for app in apps] == list(apps)
    assert [apps.find(app.key("room")) for app in apps] == list(apps)
    assert apps.find(App("gone").key("room")) is None


def test_a_drawn_connection_id_finds_its_application() -> None:
    """Any other id is one of the default application, whose drawn ids are as they are."""
    apps = Apps(App(), App("shop"))
    for app in apps:
        assert apps.of_conn_id(app.conn_id("0a1b")) is app
    assert App().conn_id("0a1b") == "0a1b"
    for conn_id in ("", "shop", "gone.0a1b", ".0a1b", "a.shop.0a1b"):
        assert apps.of_conn_id(conn_id) is apps.default


def test_two_applications_never_have_one_id() -> None:
    """Otherwise the keys of their channels, users and connections would be the same."""
    for further in ((App(DEFAULT),), (App("shop"), App("shop"))):
        with pytest.raises(ValueError, match="same id"):
            Apps(App(), *further)


def test_names_of_the_default_application_are_their_keys() -> None:
    """Unless one has the mark that begins the keys of others; another application has to make each key."""
    default = App()
    names = ["ann", "bob"]
    assert default.keys(names) is names
    assert default.keys(["ann", f"{MARK}bob"]) == ["ann", default.key(f"{MARK}bob")]
    assert App("shop").keys(names) == list(map(App("shop").key, names))
