"""What an application has for Pusher's protocol."""

from channelstream.apps.pusher_app import PusherApp, PusherSecrets


def test_channels_of_pusher_have_a_namespace() -> None:
    """Those of Pusher are in a namespace of their own, unless the prefix is empty."""
    app = PusherApp("1", "key", PusherSecrets("a secret"))
    assert app.channel("private-a") == "pusher/private-a"
    assert app.pusher_name("pusher/private-a") == "private-a"
    shared = PusherApp("1", "key", PusherSecrets("a secret"), channel_prefix="")
    assert (shared.channel("a"), shared.pusher_name("a")) == ("a", "a")


def test_its_secret_is_not_shown() -> None:
    assert "a secret" not in repr(PusherApp("1", "key", PusherSecrets("a secret")))


def test_the_newest_secret_signs_and_all_are_accepted() -> None:
    """All are accepted; the newest one signs, and ids are made of the oldest."""
    secrets = PusherSecrets("old")
    secrets.replace(["new", "old"])
    assert (secrets.accepted, secrets.newest, secrets.oldest) == (("new", "old"), "new", "old")
    secrets.replace(["new"])
    assert secrets.accepted == ("new",)
