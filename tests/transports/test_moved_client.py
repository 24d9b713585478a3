"""What of a client with a token moves to another process with its stream."""

import msgspec

from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.grants import Grants, Patterns
from channelstream.transports.moving import MovedClient, client_from, moved_client


def test_a_client_is_the_same_in_the_other_process() -> None:
    """But for what only a stream that opens needs: the state to set."""
    grants = Grants(Patterns(("a.*",)), Patterns(("b",)), Patterns(("c",)), Patterns(("d.**",)))
    token = {"token_id": "t", "issued_s": 1.0, "key_id": "web", "signed_with": "f"}
    client = Client(App("shop"), "ann", 9.0, grants, ("a.1",), **token)  # type: ignore[arg-type]
    data = msgspec.msgpack.encode(moved_client(client))
    assert client_from(msgspec.msgpack.decode(data, type=MovedClient), App("shop")) == client
