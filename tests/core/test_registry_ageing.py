"""The registry: when users and channels are forgotten, and who is back after a restart."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.registry_bench import ALWAYS, IF_ANNOUNCED, NOW, NOW_S, STEADY_S, Bench, at, message

from channelstream.core.moment import Moment


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.check_budget()


def test_a_user_is_forgotten_after_its_time_without_connections(bench: Bench) -> None:
    """Not at the limit but after it, with its log; connected ones stay for ever."""
    bench.user("here")
    gone = bench.user("gone")
    bench.commit(message("p1", channel=None, only=frozenset({"gone"})))
    bench.registry.disconnect(gone, NOW)
    bench.registry.collect(STEADY_S + 10, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == {"here", "gone"}
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == {"here"}
    assert gone.log.entries == []


def test_activity_postpones_being_forgotten(bench: Bench) -> None:
    """The one idle for longest goes first, whichever came first."""
    for name in ("first", "second"):
        bench.registry.open_user(name, {}, 0, NOW)
    bench.registry.touch_user(bench.registry.users["first"], at(5))
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=0)
    assert set(bench.registry.users) == {"first"}


def test_a_call_forgets_no_more_than_its_bound(bench: Bench) -> None:
    """Users and channels together; the next call goes on."""
    for number in range(3):
        user, channel = bench.user(f"u{number}"), bench.channel(f"c{number}")
        bench.join(channel, user)
        bench.part(channel, user)
        bench.registry.disconnect(user, NOW)
    calls = [bench.registry.collect(STEADY_S + 11, 10, 10, most=2) for _ in range(4)]
    assert [(len(each.users), len(each.channels)) for each in calls] == [(2, 0), (1, 1), (0, 2), (0, 0)]


def test_no_step_copies_the_idle_users(bench: Bench) -> None:
    """An ordered dict of them would be copied now and then, in the turn of the event loop of one user."""
    users = [bench.user(f"u{number}") for number in range(10_000)]
    tracemalloc.start()
    try:
        for user in users:
            bench.registry.disconnect(user, NOW)
        for user in users:
            bench.registry.connect(user, NOW)
            bench.registry.disconnect(user, NOW)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 10_000


def test_an_empty_channel_is_forgotten_after_its_time(bench: Bench) -> None:
    """With log and history; a channel with members or a recent message stays."""
    empty, full, busy = (bench.channel(name, store_history=True) for name in ("empty", "full", "busy"))
    bench.join(full, bench.user("ann"))
    for name in ("empty", "full"):
        bench.commit(message(name, channel=name))
    bench.commit(message("busy", channel="busy"), at(5))
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.channels) == {"full", "busy"}
    assert (empty.log.entries, empty.history.entries) == ([], [])
    bench.part(full, bench.registry.users["ann"])
    bench.registry.collect(STEADY_S + 99, users_after_s=10, channels_after_s=10)
    assert busy.name not in bench.registry.channels
    assert bench.registry.channels == {}


def left_over(bench: Bench) -> set[str]:
    """Return the users and channels that are kept a moment later."""
    bench.registry.collect(STEADY_S + 1, users_after_s=10, channels_after_s=10)
    return {*bench.registry.users, *bench.registry.channels}


def test_a_user_to_whom_nobody_comes_back_is_forgotten_soon(bench: Bench) -> None:
    """Also after a request about it, and before those that are idle for a long time."""
    for name in ("ann", "guest", "other guest"):
        bench.registry.disconnect(bench.user(name), NOW)
    bench.registry.touch_user(bench.registry.users["guest"], NOW)
    bench.user("other guest")
    assert left_over(bench) == {"ann", "other guest"}


def test_a_brief_channel_is_forgotten_soon(bench: Bench) -> None:
    """Once the last of several members has left it, whom nobody else has met."""
    brief, guest, other = bench.channel("brief"), bench.user("guest"), bench.user("other guest")
    for user in (guest, other):
        bench.join(brief, user)
    bench.part(brief, other)
    assert "brief" in left_over(bench)
    bench.part(brief, guest)
    assert left_over(bench) == {"guest", "other guest"}


def test_what_somebody_may_miss_is_kept(bench: Bench) -> None:
    """A channel that had settings of its own, an event, or a member who may come back, at whatever time."""
    guest, ann = bench.user("guest"), bench.user("ann")
    settled = bench.channel("settled", store_history=True)
    spoken, spoken_later, visited, chosen, chosen_later = map(
        bench.channel, ("spoken", "spoken later", "visited", "chosen", "chosen later")
    )
    for channel in (settled, spoken, spoken_later, visited, chosen, chosen_later):
        bench.join(channel, guest)
    bench.commit(message("m1", channel="spoken"))
    bench.join(visited, ann)
    bench.part(visited, ann)
    bench.registry.configure("chosen", {}, 0, NOW)
    for channel in (settled, spoken, spoken_later, visited, chosen, chosen_later):
        bench.part(channel, guest)
    bench.commit(message("m2", channel="spoken later"))
    bench.registry.configure("chosen later", {}, 0, NOW)
    kept = {"settled", "spoken", "spoken later", "visited", "chosen", "chosen later"}
    assert left_over(bench) == {"guest", "ann"} | kept
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert bench.registry.channels == {}


def test_a_restored_channel_may_be_brief(bench: Bench) -> None:
    """As it was before; one that is not known there is as if it were new."""
    restored = bench.channel("restored", store_history=False)
    bench.registry.set_brief(restored, True, NOW)
    assert left_over(bench) == set()
    bench.registry.restore_connection("guest", ["unknown"], IF_ANNOUNCED, 7, NOW)
    bench.part(bench.registry.channels["unknown"], bench.registry.users["guest"])
    assert left_over(bench) == {"guest"}


@pytest.mark.parametrize("set_s", [3600, -3600, 86_400, -86_400])
def test_setting_the_wall_clock_neither_forgets_nor_keeps_what_is_idle(bench: Bench, set_s: float) -> None:
    """Idle time is measured by the clock that never jumps; the pages show the wall time of the last activity."""
    for name in ("before", "after"):
        now = Moment(NOW_S + (set_s if name == "after" else 0), STEADY_S)
        bench.registry.open_user(name, {}, 0, now)
        bench.channel(name, now)
    assert bench.registry.users["after"].last_active_s == NOW_S + set_s
    bench.registry.collect(STEADY_S + 10, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == set(bench.registry.channels) == {"before", "after"}
    bench.registry.collect(STEADY_S + 11, users_after_s=10, channels_after_s=10)
    assert bench.registry.users == bench.registry.channels == {}


def test_zero_keeps_for_ever(bench: Bench) -> None:
    """0 switches off each of the lifetimes."""
    bench.registry.open_user("ann", {}, 0, NOW)
    bench.channel("a")
    bench.registry.collect(STEADY_S * 2, users_after_s=0, channels_after_s=0)
    assert set(bench.registry.users) == {"ann"}
    assert set(bench.registry.channels) == {"a"}


def test_idle_times_may_be_set_in_any_order(bench: Bench) -> None:
    """Once they are in order, those that are idle for the longest time are forgotten first."""
    for name, age_s in (("new", 5.0), ("old", 50.0)):
        bench.registry.open_user(name, {}, 0, NOW).idle_since_s -= age_s
        bench.channel(name).idle_since_s -= age_s
    bench.registry.order_idle()
    bench.registry.collect(STEADY_S, users_after_s=10, channels_after_s=10)
    assert set(bench.registry.users) == set(bench.registry.channels) == {"new"}


def test_a_connection_is_restored_with_its_user_and_channels(bench: Bench) -> None:
    """Known or not; nobody joins."""
    known = bench.channel("known")
    bench.registry.restore_connection("ann", ["known", "new"], ALWAYS, 7, NOW)
    assert (known.users, known.always_connections) == ({"ann": 1}, 1)
    user, new = bench.registry.users["ann"], bench.registry.channels["new"]
    assert (user.connections, user.channels, user.log.floor) == (1, {"known", "new"}, 7)
    assert (new.users, new.log.floor) == ({"ann": 1}, 7)


CHURN = st.lists(
    st.tuples(
        st.sampled_from(["connect", "disconnect", "join", "part", "say", "configure", "touch", "collect"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 30),
        st.sampled_from([0, 0, 0, 3600, -3600, 86_400, -86_400]),
    ),
    max_size=60,
)


class Churn:
    """Users and channels that come and go at random, with the counts they should have."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.registry = self.bench.registry
        self.now = NOW
        self.connected: list[str] = []
        self.joined: list[tuple[str, str]] = []

    def pass_time(self, wait_s: int, set_s: int) -> None:
        """Let time pass, while somebody sets the wall clock."""
        self.now = Moment(self.now.wall_s + wait_s + set_s, self.now.steady_s + wait_s)

    def connect(self, user: str, _: str) -> None:
        self.bench.user(user, self.now)
        self.connected.append(user)

    def disconnect(self, user: str, _: str) -> None:
        if user in self.connected:
            for name in [channel for member, channel in self.joined if member == user]:
                self.part(user, name)
            self.connected.remove(user)
            self.registry.disconnect(self.registry.users[user], self.now)

    def join(self, user: str, name: str) -> None:
        if user in self.connected:
            channel = self.bench.channel(name, self.now)
            self.registry.join(channel, self.registry.users[user], IF_ANNOUNCED, self.now)
            self.joined.append((user, name))

    def part(self, user: str, name: str) -> None:
        if (user, name) in self.joined:
            self.registry.leave_and_announce(
                self.registry.channels[name], self.registry.users[user], IF_ANNOUNCED, self.now
            )
            self.joined.remove((user, name))

    def say(self, user: str, name: str) -> None:
        self.bench.commit(message("m", channel=name), self.now)
        self.bench.commit(message("p", channel=None, only=frozenset({user})), self.now)

    def configure(self, _: str, name: str) -> None:
        self.registry.configure(name, {"store_history": True}, self.bench.offset, self.now)

    def touch(self, user: str, _: str) -> None:
        if user in self.registry.users:
            self.registry.touch_user(self.registry.users[user], self.now)

    def collect(self, _: str, __: str) -> None:
        self.registry.collect(self.now.steady_s, users_after_s=20, channels_after_s=30)
        self._check_the_forgotten()

    def _check_the_forgotten(self) -> None:
        for user in self.registry.users.values():
            assert user.connections or self.now.steady_s - user.idle_since_s <= 20
        for channel in self.registry.channels.values():
            assert channel.connections or self.now.steady_s - channel.idle_since_s <= 30

    def agree(self) -> None:
        users, channels = self.registry.users, self.registry.channels
        assert {name: user.connections for name, user in users.items() if user.connections} == {
            name: self.connected.count(name) for name in self.connected
        }
        assert {(user, name) for name, channel in channels.items() for user in channel.users} == set(
            self.joined
        )
        assert {(name, channel) for name, user in users.items() for channel in user.channels} == set(
            self.joined
        )


@given(CHURN)
def test_random_joins_and_leaves_are_counted_and_forgotten(
    steps: list[tuple[str, int, int, int, int]],
) -> None:
    """Connected users stay and idle ones go, however the wall clock is set; no step fails."""
    churn = Churn()
    for step, user, channel, wait_s, set_s in steps:
        churn.pass_time(wait_s, set_s)
        getattr(churn, step)(f"u{user}", f"c{channel}")
        churn.agree()
