"""Commands between nodes: the encoded form, which nodes of several versions share."""

import msgspec
import pytest

from channelstream.core.user import UserUpdate
from channelstream.errors import Invalid, TooManyRequests
from channelstream.service.commands import (
    Answer,
    Command,
    End,
    Reconnect,
    Release,
    Subscribe,
    Unsubscribe,
    encode,
    read_answer,
    read_command,
)
from channelstream.service.remote_calls import RemoteCall

UPDATE = b'{"values":{"a":1},"fresh":{},"public_keys":null,"add_public":[],"first":null}'
ENCODED: list[tuple[Command | RemoteCall, dict[str, object]]] = [
    (
        Subscribe("c", {"news": {}}, Reconnect.of("ann", UserUpdate({"a": 1}, {})), "e-1"),
        {
            "type": "Subscribe",
            "conn_id": "c",
            "channels": {"news": {}},
            "reconnect": {"user": "ann", "update": UPDATE},
            "since": "e-1",
        },
    ),
    (Unsubscribe("c", ["news"]), {"type": "Unsubscribe", "conn_id": "c", "channels": ["news"]}),
    (End("c", 1000, "bye"), {"type": "End", "conn_id": "c", "code": 1000, "reason": "bye"}),
    (
        End("c", 1000, "bye", "by boss"),
        {"type": "End", "conn_id": "c", "code": 1000, "reason": "bye", "recorded": "by boss"},
    ),
    (Release("c"), {"type": "Release", "conn_id": "c"}),
    (RemoteCall("figures", b"\xff"), {"type": "RemoteCall", "procedure": "figures", "argument": b"\xff"}),
]


@pytest.mark.parametrize(("command", "encoded"), ENCODED, ids=lambda value: type(value).__name__)
def test_a_command_keeps_its_encoded_form(command: Command | RemoteCall, encoded: dict[str, object]) -> None:
    """A node of another version understands it."""
    assert msgspec.msgpack.decode(encode(command)) == encoded
    assert type(read_command(msgspec.msgpack.encode(encoded))) is type(command)


def test_an_answer_keeps_its_encoded_form() -> None:
    answer = Answer(found=True, channels=["news"], changed=[], delivered=(7,))
    encoded = {"found": True, "channels": ["news"], "changed": [], "delivered": [7], "faults": None}
    newer = {"limit": "", "sent_apart": {}}  # Older nodes read no such names.
    assert msgspec.msgpack.decode(encode(answer)) == encoded | newer
    assert read_answer(msgspec.msgpack.encode(encoded)) == answer


def test_a_refused_command_raises_at_the_node_that_asks() -> None:
    with pytest.raises(Invalid) as raised:
        read_answer(encode(Answer(found=True, faults={"channels": ["Too many."]})))
    assert raised.value.faults == {"channels": ["Too many."]}
    with pytest.raises(TooManyRequests, match=r"Three\."):
        read_answer(encode(Answer(found=True, limit="Three.")))
    assert read_answer(None) is None
