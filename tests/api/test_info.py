"""Answers about very many users are bounded, and can be read page by page."""

from typing import Any

import pytest
from tests.conftest import launch


@pytest.fixture(scope="module")
def small() -> Any:
    """A server whose answers name two users of a channel, with five in each of two channels."""
    running = launch("--info-users-max", "2")
    for user in "edcba":
        running.connect(user, "one", "two", user_state={"letter": user})
    yield running
    running.stop()


def info(server: Any, **options: Any) -> Any:
    return server.post("/info", {"info": options})


def test_an_answer_names_the_first_users(small: Any) -> None:
    """Sorted, with how many there are, and says that it is cut; the states are those of the users named."""
    reply = info(small, channels=["one", "two"])
    for channel in reply["channels"].values():
        assert (channel["users"], channel["total_users"], channel["users_cut"]) == (["a", "b"], 5, True)
    assert ([user["user"] for user in reply["users"]], reply["users_cut"]) == (["a", "b"], True)


def test_users_are_read_page_by_page(small: Any) -> None:
    """Each page begins after the last name of the previous one; the last one is not cut."""
    after, pages = "", []
    while True:
        reply = info(small, channels=["one"], users_after=after)
        pages.append(reply["channels"]["one"]["users"])
        assert [user["user"] for user in reply["users"]] == pages[-1]
        if "users_cut" not in reply["channels"]["one"]:
            break
        after = pages[-1][-1]
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert "users_cut" not in reply


def test_connections_and_the_older_form_are_cut_too(small: Any) -> None:
    """As many connections as users; the 0.2 form counts all the same."""
    channel = info(small, include_connections=True)["channels"]["one"]
    assert (len(channel["connections"]), channel["connections_cut"]) == (2, True)
    seed = small.post("/info", {"channels": ["one"]})
    assert [user["user"] for user in seed["channels"]["one"]["users"]] == ["a", "b"]
    assert all(len(user["connections"]) == 1 for user in seed["channels"]["one"]["users"])
    assert (seed["unique_users"], seed["users_cut"]) == (5, True)


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe"])
def test_channels_info_is_cut_as_well(small: Any, path: str) -> None:
    """`channels_info` of each."""
    conn_id = small.connect(f"late{path}", "other", "one", info={"channels": []})
    body = {"username": f"late{path}", "conn_id": conn_id, "channels": ["other" if "un" in path else "two"]}
    reply = small.post(path, body | {"info": {"channels": ["one"]}})
    assert list(reply["channels_info"]["channels"]) == ["one"]
    assert reply["channels_info"]["channels"]["one"]["users"] == ["a", "b"]
    small.post("/disconnect", {"conn_id": conn_id})


def test_states_in_an_answer_are_bounded_together(small: Any) -> None:
    """Ten times as many as of one channel, from all channels of the answer."""
    ids = [small.connect(f"x{n:02}", f"many-{n // 2}") for n in range(30)]
    names = [f"many-{n}" for n in range(15)]
    reply = info(small, channels=names)
    assert [user["user"] for user in reply["users"]] == [f"x{n:02}" for n in range(20)]
    assert reply["users_cut"] is True
    assert all(len(reply["channels"][name]["users"]) == 2 for name in names)
    for conn_id in ids:
        small.post("/disconnect", {"conn_id": conn_id})


def test_info_of_many_channels_is_complete(server: Any) -> None:
    """The answer is complete, as for a few."""
    names = [f"info-many-{number}" for number in range(120)]
    answer = server.post("/channel_config", {name: {"history_size": 3} for name in names})
    assert list(answer["channels"]) == names
    assert {channel["settings"]["history_size"] for channel in answer["channels"].values()} == {3}
    conn_id = server.connect("info-many", *names)
    reply = server.post("/info", {"info": {"channels": names}})
    assert {tuple(channel["users"]) for channel in reply["channels"].values()} == {("info-many",)}
    assert [user["user"] for user in reply["users"]] == ["info-many"]
    server.post("/disconnect", {"conn_id": conn_id})


@pytest.mark.parametrize(("asked", "shown"), [(None, ["a-1", "a-2"]), ([], []), (["a-2", "zzz"], ["a-2"])])
def test_channels_info_has_the_requested_channels(server: Any, asked: Any, shown: list[str]) -> None:
    """Of those of the connection: null all, an empty list none, others never."""
    answer = server.post(
        "/connect", {"username": "info-ann", "channels": ["a-1", "a-2"], "info": {"channels": asked}}
    )
    assert list(answer["channels_info"]["channels"]) == shown
    assert answer["channels"] == ["a-1", "a-2"]
