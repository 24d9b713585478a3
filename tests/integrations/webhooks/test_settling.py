"""What a short absence causes is not reported."""

from itertools import count

import pytest

from channelstream.core.facts import (
    CacheMissed,
    ChannelOccupied,
    ChannelVacated,
    ConnectionClosed,
    ConnectionOpened,
    Fact,
    MemberAdded,
    MemberRemoved,
    UserOffline,
    UserOnline,
    kind_of,
)
from channelstream.integrations.webhooks import settling
from channelstream.integrations.webhooks.settling import Settling
from channelstream.service import Kept

FAR = 10_000_000


class Scene:
    """Facts that are added, and what is reported of them."""

    def __init__(self) -> None:
        self.settling = Settling()
        self.sent: list[str] = []
        self.dropped: list[str] = []
        self._numbers = count(1)

    def add(self, fact: Fact, read_s: float = 0.0, shard: int = 0) -> None:
        settled = self.settling.add(Kept(shard, next(self._numbers), fact), fact, read_s)
        self.sent += map(name, settled.sent)
        self.dropped += map(name, settled.dropped)

    def due(self, *horizons_ms: int, all_read_s: float = -1.0) -> None:
        self.sent += map(name, self.settling.due(horizons_ms, all_read_s))


def name(kept: Kept) -> str:
    assert kept.fact is not None
    return f"{kind_of(kept.fact)} {kept.fact.at_ms}"


PAIRS = {
    "channel": (ChannelVacated, ChannelOccupied, {"channel": "a"}),
    "member": (MemberRemoved, MemberAdded, {"channel": "a", "user": "ann"}),
    "user": (UserOffline, UserOnline, {"user": "ann"}),
}


@pytest.mark.parametrize(("ends", "begins", "about"), PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize(("absent_ms", "is_reported"), [(0, False), (3000, False), (3001, True)])
def test_a_short_absence_is_not_reported(
    ends: type, begins: type, about: dict[str, str], absent_ms: int, is_reported: bool
) -> None:
    """By the times of both, also if they are read much later; otherwise both are, in order."""
    scene = Scene()
    scene.add(ends(id="i", at_ms=1000, **about), read_s=900.0)
    assert (scene.sent, scene.dropped) == ([], [])
    scene.add(begins(id="j", at_ms=1000 + absent_ms, **about), read_s=900.0)
    both = [f"{kind_of(ends)} 1000", f"{kind_of(begins)} {1000 + absent_ms}"]
    assert (scene.sent, scene.dropped) == ((both, []) if is_reported else ([], both))
    scene.due(FAR, all_read_s=FAR)
    assert len(scene.sent) == 2 * is_reported


def test_only_the_same_member_returns() -> None:
    """Of another member, or in another channel, it is no return."""
    scene = Scene()
    scene.add(MemberRemoved(id="i", at_ms=1, channel="a", user="ann"))
    scene.add(MemberAdded(id="i", at_ms=2, channel="a", user="bob"))
    scene.add(MemberAdded(id="i", at_ms=3, channel="b", user="ann"))
    scene.add(ChannelOccupied(id="i", at_ms=4, channel="ann"))
    assert scene.sent == ["added 2", "added 3", "occupied 4"]


def test_an_end_waits_until_it_cannot_begin_again() -> None:
    """Everything within three seconds is read: by a later fact of its shard, or since nothing came for as long."""
    scene = Scene()
    scene.add(ChannelVacated(id="i", at_ms=1000, channel="a"), read_s=10.0)
    scene.due(4000, all_read_s=12.9)
    assert scene.sent == []
    scene.due(4001, all_read_s=12.9)
    assert scene.sent == ["vacated 1000"]
    scene.add(ChannelVacated(id="i", at_ms=2000, channel="a"), read_s=10.0)
    scene.due(2000, all_read_s=13.0)
    assert scene.sent == ["vacated 1000", "vacated 2000"]
    scene.due(FAR, all_read_s=FAR)
    assert scene.sent == ["vacated 1000", "vacated 2000"]


def test_ends_are_reported_in_their_order() -> None:
    scene = Scene()
    scene.add(MemberRemoved(id="i", at_ms=1, channel="a", user="ann"))
    scene.add(ChannelVacated(id="i", at_ms=2, channel="a"))
    scene.add(UserOffline(id="i", at_ms=3, user="ann"))
    scene.due(FAR)
    assert scene.sent == ["removed 1", "vacated 2", "offline 3"]


def test_an_end_waits_for_those_before_it_in_its_shard() -> None:
    """Their times may be those of two nodes, whose clocks differ; another shard is not waited for."""
    scene = Scene()
    scene.add(ChannelVacated(id="i", at_ms=6000, channel="a"))
    scene.add(ChannelVacated(id="i", at_ms=1000, channel="b"))
    scene.add(ChannelVacated(id="i", at_ms=2000, channel="c"), shard=1)
    scene.due(6000, 5001)
    assert scene.sent == ["vacated 2000"]
    scene.due(9001, 5001)
    assert scene.sent == ["vacated 2000", "vacated 6000", "vacated 1000"]


def test_a_second_end_is_reported_with_the_first() -> None:
    """As after data was lost, where nothing says that it began in between; then it has to be reported that it begins."""
    scene = Scene()
    scene.add(ChannelVacated(id="i", at_ms=1, channel="a"))
    scene.add(ChannelVacated(id="i", at_ms=2, channel="a"))
    scene.add(ChannelOccupied(id="i", at_ms=3, channel="a"))
    assert (scene.sent, scene.dropped) == (["vacated 1", "vacated 2", "occupied 3"], [])


def test_the_end_of_a_connection_does_not_wait() -> None:
    """One that opens is another one."""
    scene = Scene()
    scene.add(ConnectionClosed(id="i", at_ms=1, user="ann", connection="c"))
    scene.add(ConnectionOpened(id="i", at_ms=2, user="ann", connection="c"))
    assert scene.sent == ["closed 1", "opened 2"]


def test_a_missing_last_event_is_reported_once_a_second() -> None:
    """For each channel."""
    scene = Scene()
    for at_ms, channel in (
        (0, "a"),
        (1, "b"),
        (999, "a"),
        (1000, "a"),
        (1500, "b"),
        (1999, "a"),
        (2000, "a"),
    ):
        scene.add(CacheMissed(id="i", at_ms=at_ms, channel=channel))
    assert scene.sent == [
        "cache_miss 0",
        "cache_miss 1",
        "cache_miss 1000",
        "cache_miss 1500",
        "cache_miss 2000",
    ]
    for number in range(3000):
        scene.add(CacheMissed(id="i", at_ms=9000 + number, channel=f"c{number}"))
    assert len(scene.settling._missed_ms) <= 1002


def test_too_many_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are reported, although they may begin again."""
    monkeypatch.setattr(settling, "MOST_HELD", 10)
    scene = Scene()
    for number in range(15):
        scene.add(ChannelVacated(id="i", at_ms=number, channel=f"c{number}"))
    scene.due(0)
    assert scene.sent == [f"vacated {number}" for number in range(5)]
