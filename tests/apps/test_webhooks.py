"""The receivers of an application's webhooks."""

from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.apps.webhooks import Receiver

PUSHER = PusherApp("1", "key", PusherSecrets("pusher secret"))
RECEIVER = Receiver("shop", "https://a.example:8443/x?token=1", frozenset(), (b"signing key",))
OF_PUSHER = Receiver("shop", RECEIVER.url, frozenset(), pusher=PUSHER)


def test_a_receiver_has_a_name_as_a_consumer() -> None:
    """One URL may have both formats, and be that of two applications."""
    other = Receiver("other", RECEIVER.url, frozenset())
    assert RECEIVER.name == "shop standard https://a.example:8443/x?token=1"
    assert len({RECEIVER.name, OF_PUSHER.name, other.name}) == 3


def test_a_receiver_shows_no_secret() -> None:
    """Neither in a log nor in an error; its URL may have one in the query."""
    assert RECEIVER.label == "https://a.example:8443/x"
    assert "signing key" not in repr(RECEIVER)
    assert "pusher secret" not in repr(OF_PUSHER)
