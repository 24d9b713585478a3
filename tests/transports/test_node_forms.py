"""What nodes send each other about clients with tokens: the encoded form, which nodes of several versions share."""

from typing import Any

import msgspec
import pytest

from channelstream.service import revocations
from channelstream.service.revocations import Revocation
from channelstream.transports import client_calls

CASES: list[tuple[Any, list[Any], Any]] = [
    (client_calls._Sent(token="token", conn_id="c", text=b"[]"), ["token", "c", b"[]"], client_calls._sent),
    (client_calls._Answered(items=b"[]"), [b"[]", ""], client_calls._answered),
    (client_calls._Answered(refused_token="Why."), [b"", "Why."], client_calls._answered),
    (
        Revocation(is_user=True, key="ann", at_s=1.5, until_s=2.5),
        [True, "ann", 1.5, 2.5],
        revocations._decode,
    ),
]
"""A value, its form as older nodes know it, and what reads it."""


@pytest.mark.parametrize(("value", "form", "read"), CASES, ids=lambda value: type(value).__name__)
def test_a_value_keeps_its_encoded_form(value: Any, form: list[Any], read: Any) -> None:
    """What an older node sends is read, and what it is sent begins as it knows it; what a newer one adds is ignored."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value))[: len(form)] == form
    assert read(msgspec.msgpack.encode(form)) == value
    assert read(msgspec.msgpack.encode([*form, "of a newer version"])) == value
