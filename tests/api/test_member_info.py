"""What `/info` says about members whose names count in one channel only (`core/seat.py`)."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.service.test_seats import ROOM, Scene, play

from channelstream.api.info import info_of, seed_info
from channelstream.api.schemas import InfoOptions
from channelstream.core.user import UserUpdate
from channelstream.http.parts import encode
from channelstream.slices import Slices
from channelstream.wire.channelstream import V07


async def pages(scene: Scene, seed: bool, *after: str) -> list[Any]:
    """Return a page after each of these names, with at most two users."""
    call: Any = SimpleNamespace(
        service=scene.service,
        slices=Slices(scene.clock.steady),
        limits=SimpleNamespace(info_users=2),
    )
    found = []
    for name in after:
        options = InfoOptions(channels=[ROOM], users_after=name, include_connections=True)
        found.append(json.loads(encode(await (seed_info if seed else info_of)(call, options))))
    return found


async def fill(scene: Scene) -> None:
    """Put three members into the room, of whom one is called as a user there."""
    await scene.connect("c1", "c2", "c3")
    await scene.service.connect("c4", "bob", V07, {ROOM: {}}, UserUpdate({"status": 4}, {}))
    for number, name in enumerate(("eve", "bob", "ann"), 1):
        await scene.memberships.join_as(f"c{number}", ROOM, name, {"status": number})


@pytest.mark.parametrize("app_id", ["default", "shop"])
def test_members_are_listed_with_their_own_states(app_id: str) -> None:
    """By name, page by page; one that is called as a user is listed beside it."""

    async def life(scene: Scene) -> None:
        await fill(scene)
        first, second = await pages(scene, False, "", "bob")
        [room], [rest] = first["channels"].values(), second["channels"].values()
        assert (room["users"], room["users_cut"], rest["users"]) == (["ann", "bob"], True, ["eve"])
        assert first["users"] == [
            {"user": "ann", "state": {"status": 3}},
            {"user": "bob", "state": {"status": 4}},
        ]
        assert second["users"] == [{"user": "eve", "state": {"status": 1}}]
        assert (room["total_users"], room["total_connections"]) == (4, 4)
        assert (room["connections"], room["connections_cut"]) == (["c1", "c2"], True)

    play(life, app_id)


def test_the_older_form_lists_them_too() -> None:
    """Each with the status of its own state, and the connections that hold it."""

    async def life(scene: Scene) -> None:
        await fill(scene)
        first, second = await pages(scene, True, "", "bob")
        [room], [rest] = first["channels"].values(), second["channels"].values()
        assert room["users"] == [
            {"user": "ann", "status": 3, "connections": ["c3"]},
            {"user": "bob", "status": 4, "connections": ["c2", "c4"]},
        ]
        assert rest["users"] == [{"user": "eve", "status": 1, "connections": ["c1"]}]

    play(life)
