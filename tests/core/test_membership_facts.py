"""The facts about members, made by the registry as it changes."""

from itertools import count

import pytest

from channelstream.core.client_protocol import PresenceAudience
from channelstream.core.facts import Fact, kind_of, public_id
from channelstream.core.membership_facts import MembershipFacts
from channelstream.core.moment import Moment
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import RegistryLimits

NOW = Moment(1_700_000_000.0004, 5.0)


class Only:
    """Wants some kinds of facts about keys that do not begin with `-`."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def wants(self, kind: str, key: str) -> bool:
        return kind in self._kinds and not key.startswith("-")


ALL = ("occupied", "vacated", "added", "removed", "online", "offline", "opened", "closed")


class Scene:
    """A registry whose facts are collected."""

    def __init__(self, *kinds: str) -> None:
        ids = (f"id{number}" for number in count())
        self.registry = Registry(RegistryLimits(), lambda: next(ids))
        self.kept: list[Fact] = []
        self.registry.make_facts(Only(*kinds), self.kept.append)

    def join(self, channel: str, user: str, **settings: bool) -> None:
        known = self.registry.open_channel(channel, settings, 0, NOW)
        self.registry.add_member(
            known, self.registry.open_user(user, {}, 0, NOW), PresenceAudience.ALWAYS, NOW
        )

    def leave(self, channel: str, user: str) -> None:
        registry = self.registry
        registry.leave(registry.channels[channel], registry.users[user], PresenceAudience.ALWAYS, NOW)

    def taken(self) -> list[tuple[str, ...]]:
        """Return kind, channel and user of the facts since the last call."""
        kept = [
            (kind_of(fact), *(getattr(fact, name) for name in ("channel", "user") if hasattr(fact, name)))
            for fact in self.kept
        ]
        self.kept.clear()
        return kept


def test_the_first_and_the_last_connection_count() -> None:
    """Of a channel, and of a user in it; a member is in the channel while it is occupied."""
    scene = Scene(*ALL)
    scene.join("a", "ann", notify_presence=True)
    assert scene.taken() == [("occupied", "a"), ("added", "a", "ann")]
    scene.join("a", "ann")
    assert scene.taken() == []
    scene.join("a", "bob")
    assert scene.taken() == [("added", "a", "bob")]
    scene.leave("a", "ann")
    scene.leave("a", "bob")
    assert scene.taken() == [("removed", "a", "bob")]
    scene.leave("a", "ann")
    assert scene.taken() == [("removed", "a", "ann"), ("vacated", "a")]


def test_members_are_reported_where_presence_is() -> None:
    """A channel without `notify_presence` is occupied and vacated."""
    scene = Scene(*ALL)
    scene.join("a", "ann")
    scene.leave("a", "ann")
    assert scene.taken() == [("occupied", "a"), ("vacated", "a")]


def test_users_come_and_go() -> None:
    """With their first and their last connection."""
    scene = Scene(*ALL)
    user = scene.registry.open_user("ann", {}, 0, NOW)
    scene.registry.connect(user, NOW)
    scene.registry.connect(user, NOW)
    assert scene.taken() == [("online", "ann")]
    scene.registry.disconnect(user, NOW)
    assert scene.taken() == []
    scene.registry.disconnect(user, NOW)
    assert scene.taken() == [("offline", "ann")]


def test_each_fact_has_an_id_and_its_time() -> None:
    scene = Scene(*ALL)
    scene.join("a", "ann", notify_presence=True)
    one, other = scene.kept
    assert one.id != other.id
    assert one.at_ms == other.at_ms == 1_700_000_000_000


def test_a_connection_is_shown_by_its_public_id() -> None:
    kept = list[Fact]()
    facts = MembershipFacts(Only(*ALL), lambda: "id", kept.append)
    facts.opened("secret", "ann", 1.0)
    facts.closed("secret", "ann", 1.0)
    assert [(kind_of(fact), getattr(fact, "connection", "")) for fact in kept] == [
        ("opened", public_id("secret")), ("closed", public_id("secret")),
    ]  # fmt: skip


@pytest.mark.parametrize("kinds", [("message",), ()])
def test_what_is_not_wanted_is_not_made(kinds: tuple[str, ...]) -> None:
    """Neither another kind, nor anything about a key that is left out."""
    scene = Scene(*kinds)
    scene.join("a", "ann", notify_presence=True)
    user = scene.registry.users["ann"]
    scene.registry.connect(user, NOW)
    scene.registry.disconnect(user, NOW)
    scene.leave("a", "ann")
    facts = MembershipFacts(Only(*kinds), lambda: "id", scene.kept.append)
    facts.opened("secret", "ann", 1.0)
    facts.closed("secret", "ann", 1.0)
    assert scene.taken() == []


def test_the_key_decides_as_well() -> None:
    scene = Scene(*ALL)
    scene.join("-a", "ann", notify_presence=True)
    scene.registry.connect(scene.registry.open_user("-bob", {}, 0, NOW), NOW)
    assert scene.taken() == []


def test_what_is_restored_is_no_fact() -> None:
    """It was reported when it happened."""
    registry = Scene(*ALL).registry
    registry.facts = None
    registry.restore_connection("ann", ["a"], PresenceAudience.ALWAYS, 0, NOW)
    assert registry.channels["a"].connections == 1
