"""Schemas: defaults, and the selectors of the two generations."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from channelstream.api import schemas
from channelstream.api.schemas import (
    ConnectBody,
    DeleteBody,
    EditBody,
    InfoBody,
    InfoOptions,
    MessageBody,
)

UUID = "2f6b5c1e-96a5-4a0e-8a39-6fd0a0d8f3c4"


def read(schema: Any, **fields: Any) -> Any:
    """Build a schema the way a body does."""
    return msgspec.convert(fields, schema)


@pytest.mark.parametrize(
    ("fields", "name", "is_seed"),
    [
        ({"username": "ann"}, "ann", False),
        ({"user": "ann"}, "ann", True),
        ({"username": "ann", "user": "bob"}, "ann", False),
    ],
)
def test_user_without_username_speaks_seed(fields: dict[str, str], name: str, is_seed: bool) -> None:
    """`user` alone selects the seed protocol; `username` wins where both are given."""
    body = read(ConnectBody, **fields)
    assert (body.name, body.speaks_seed) == (name, is_seed)


def test_a_connection_has_defaults() -> None:
    """With nothing but a name there are no channels, no state, and everything in the answer."""
    body = read(ConnectBody, username="ann")
    assert body.channels == []
    assert body.user_state == body.fresh_user_state == body.channel_configs == {}
    assert body.info == InfoOptions()
    assert body.conn_id is body.state_public_keys is body.status is UNSET


@pytest.mark.parametrize(
    "schema", [schemas.ConnectBody, schemas.SubscribeBody, schemas.UnsubscribeBody], ids=lambda s: s.__name__
)
def test_channels_count_once_in_their_order(schema: Any) -> None:
    """A channel named twice counts once, where it stood first; the conn_id has its one form."""
    body = read(schema, username="ann", conn_id=UUID.upper(), channels=["b", "a", "b"])
    assert body.channels == ["b", "a"]
    assert body.conn_id == UUID


def test_disconnect_takes_any_spelling() -> None:
    """The conn_id of `/disconnect` has its one form, and may be missing."""
    assert read(schemas.DisconnectBody, conn_id=UUID.upper()).conn_id == UUID
    assert read(schemas.DisconnectBody).conn_id is UNSET


@pytest.mark.parametrize("schema", [MessageBody, EditBody], ids=lambda s: s.__name__)
def test_a_message_is_normalized(schema: Any) -> None:
    """Id and time have their one form; a null payload and an empty channel are not there."""
    body = read(
        schema,
        user="ann",
        uuid=UUID.upper(),
        timestamp="2011-09-15T11:36:18.471Z",
        message=None,
        channel="",
        pm_users=["bob"],
    )
    assert body.uuid == UUID
    assert body.timestamp == "2011-09-15T11:36:18.471000"
    assert body.message is UNSET
    assert body.channel is None


@pytest.mark.parametrize("payload", [{"text": "hi"}, [], 0, False, "", 1.5])
def test_a_payload_is_any_json(payload: Any) -> None:
    """Every value but null is kept as the payload, the falsy ones too."""
    assert read(MessageBody, user="ann", message=payload).message == payload


@pytest.mark.parametrize(
    "schema", [schemas.SubscribeBody, schemas.UnsubscribeBody], ids=lambda schema: schema.__name__
)
def test_the_connection_may_stand_in_the_query(schema: Any) -> None:
    """A body without conn_id is good: the handler looks into the query."""
    assert read(schema, channels=["a"]).conn_id is UNSET


def test_an_edit_changes_what_it_names() -> None:
    """An edit with an id alone names neither payload nor user nor time."""
    body = read(EditBody, uuid=UUID)
    assert body.message is body.user is body.timestamp is UNSET


def test_a_deletion_names_its_message() -> None:
    """The id of the deleted message has its one form; an empty channel is none."""
    body = read(DeleteBody, uuid=UUID.upper(), channel="", pm_users=["bob"])
    assert (body.uuid, body.channel) == (UUID, None)


@pytest.mark.parametrize(
    ("fields", "is_seed", "channels"),
    [
        ({}, False, None),
        ({"info": {}}, False, None),
        ({"info": {"channels": []}}, False, []),
        ({"info": {"channels": ["a"]}}, False, ["a"]),
        ({"channels": []}, True, None),
        ({"channels": ["a"]}, True, ["a"]),
        ({"channels": ["a"], "info": {}}, False, None),
    ],
)
def test_info_has_two_forms(fields: dict[str, Any], is_seed: bool, channels: list[str] | None) -> None:
    """`channels` at the top is the 0.2 form, where empty means all; in the 0.7 form it means none."""
    body = read(InfoBody, **fields)
    assert (body.is_seed_form, body.options.channels) == (is_seed, channels)
