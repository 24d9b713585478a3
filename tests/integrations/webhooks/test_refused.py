"""Facts that a receiver refuses alone hold up those behind them in their channel, and no others; in virtual time."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.integrations.webhooks.test_lane import PUSHER_RECEIVER, STANDARD_RECEIVER, World

from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ClientEvent, Fact
from channelstream.integrations.webhooks import lane, refused
from channelstream.integrations.webhooks.calling import NotAccepted
from channelstream.integrations.webhooks.refused import MOST_IN_A_ROW, MOST_REFUSED, OTHER_S
from channelstream.service import Kept


class Picky(World):
    """A receiver that refuses calls with some facts.

    Attributes:
        refuses: whether it refuses a fact now; by its `event`.
        accepted: what it has accepted, in order, and when.
        refused: the facts of each call that it has refused, and when.
    """

    def __init__(self, receiver: Receiver, refuses: Callable[[str], bool], status: int = 400) -> None:
        super().__init__(receiver)
        self.refuses = refuses
        self.status = status
        self.accepted: list[tuple[float, str]] = []
        self.refused: list[tuple[float, tuple[str, ...]]] = []

    async def post(self, headers: dict[str, str], body: bytes) -> None:
        await super().post(headers, body)
        found = tuple(part.split('"')[0] for part in body.decode().split('"event":"')[1:])
        if any(map(self.refuses, found)):
            self.refused.append((self.now_s, found))
            raise NotAccepted(f"status {self.status}", self.status)
        self.accepted += [(self.now_s, each) for each in found]

    def accepted_of(self, channel: str) -> list[str]:
        return [each for _, each in self.accepted if each.startswith(f"{channel}.")]


def sent(channel: str, number: int) -> Fact:
    name = f"{channel}.{number}"
    return ClientEvent(id=name, at_ms=number, channel=channel, event=name, data="")


def of(channels: str, each: int) -> list[Fact]:
    """Return so many facts of each of these channels, in turn."""
    return [sent(channel, number) for number in range(each) for channel in channels]


def names(channel: str, each: int, begin: int = 0) -> list[str]:
    return [f"{channel}.{number}" for number in range(begin, each)]


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_a_fact_that_is_refused_holds_up_its_channel_only(status: int) -> None:
    """It is found in a call of a hundred at once, and tried alone; once it is accepted, what is behind it follows."""
    world = Picky(STANDARD_RECEIVER, lambda name: name == "c.3" and world.now_s < 100, status)
    world.run(*of("abcde", 50))
    for channel in "abcde":
        assert world.accepted_of(channel) == names(channel, 50)
    others = [at_s for at_s, name in world.accepted if name[0] != "c"]
    assert max(others) < 2
    assert [name for at_s, name in world.accepted if name[0] == "c" and at_s < 100] == names("c", 3)
    alone = [at_s for at_s, found in world.refused if found == ("c.3",)]
    assert [round(after - before) for before, after in pairwise(alone)] == [1, 2, 4, 8, 16, 32]
    assert [len(found) for _, found in world.refused if found != ("c.3",)] == sorted(
        (len(found) for _, found in world.refused if found != ("c.3",)), reverse=True
    )
    assert len(world.calls) < 40, "calls stay small"
    assert (world.given_up, world.figures.failing_since_s) == ([], 0.0)


def test_without_batching_others_go_on_as_well() -> None:
    """The fact is given up after the five minutes of Pusher's format, and then its channel goes on."""
    world = Picky(PUSHER_RECEIVER, lambda name: name == "a.0")
    world.run(*of("ab", 5))
    assert world.accepted_of("b") == names("b", 5)
    assert max(at_s for at_s, name in world.accepted if name[0] == "b") == 0
    assert world.accepted_of("a") == names("a", 5, begin=1)
    assert min(at_s for at_s, name in world.accepted if name[0] == "a") > 236
    assert [(found, reason) for found, reason in world.given_up] == [((sent("a", 0),), "status 400")]


@pytest.mark.parametrize("receiver", [STANDARD_RECEIVER, PUSHER_RECEIVER])
def test_a_receiver_that_refuses_everything_is_called_seldom_and_misses_nothing(receiver: Receiver) -> None:
    """It is found out with a few calls; then some facts are tried, each after waits that double."""
    world = Picky(receiver, lambda _: world.now_s < 200, status=401)
    world.run(*of("abcdefghijklmnop", 50))
    for channel in "abcdefghijklmnop":
        assert world.accepted_of(channel) == names(channel, 50)
    at_once = [found for at_s, found in world.refused if at_s < 1]
    assert len(at_once) <= MOST_IN_A_ROW + 7
    tried = {found for _, found in world.refused if len(found) == 1}
    assert len(tried) == MOST_IN_A_ROW + 200 // OTHER_S
    assert len(world.refused) <= 9 * len(tried) + 7
    assert (world.given_up, world.figures.given_up) == ([], 0)


@pytest.mark.parametrize(
    ("status", "wait_s"), [(503, 0.0), (429, 0.0), (408, 0.0), (302, 0.0), (0, 0.0), (403, 2.0)]
)
def test_an_answer_about_the_receiver_divides_no_call(status: int, wait_s: float) -> None:
    """Nor one that asks for another attempt later: the same call is made again."""
    world = World(STANDARD_RECEIVER, fails_until_s=20.0, status=status, wait_s=wait_s)
    world.run(*of("ab", 30))
    assert len(world.calls) > 2
    assert len({body for _, _, body in world.calls}) == 1


def test_too_many_refused_facts_hold_up_their_lane() -> None:
    """As their receiver may refuse everything."""
    bad = {f"{channel}.0" for channel in "abcdefgh"}
    world = Picky(PUSHER_RECEIVER, lambda name: name in bad and world.now_s < 60)
    world.run(*of("abcdefghi", 3))
    assert len(bad) == MOST_IN_A_ROW
    assert min(at_s for at_s, name in world.accepted if name[0] == "i") >= OTHER_S
    assert world.given_up == []


@pytest.mark.parametrize("count", [MOST_REFUSED - 1, MOST_REFUSED])
def test_a_receiver_that_refuses_facts_of_many_channels_is_sent_all_others(count: int) -> None:
    """Since it accepts some in between, it does not refuse everything. Only very many hold up the others."""
    bad = [f"bad-{number}" for number in range(count)]
    facts = [fact for each in bad for fact in (sent(each, 0), sent("good", int(each[4:])))]
    world = Picky(STANDARD_RECEIVER, lambda name: name.startswith("bad-") and world.now_s < 1000)
    world.run(*facts, *(sent(each, 1) for each in bad))
    [*before, last] = [at_s for at_s, name in world.accepted if name.startswith("good")]
    assert (max(before) < 100, last < 100) == (True, count < MOST_REFUSED)
    for channel in bad:
        assert world.accepted_of(channel) == names(channel, 2)
    assert world.given_up == []


def test_refused_facts_in_a_row_stop_a_receiver_for_a_short_time() -> None:
    """As when a message goes to many channels, and the receiver fails at it: it is tried with others now and then."""
    bad = [f"bad-{number}" for number in range(MOST_IN_A_ROW + 3)]
    world = Picky(STANDARD_RECEIVER, lambda name: name.startswith("bad-") and world.now_s < 1000)
    world.run(*(sent(each, 0) for each in bad), *of("ab", 200))
    good = [at_s for at_s, name in world.accepted if name[:3] != "bad"]
    assert (min(good) >= 3 * OTHER_S, max(good) < 5 * OTHER_S) == (True, True)
    assert world.given_up == []


def test_a_busy_channel_gives_up_its_refused_fact_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many wait behind it, once the receiver has accepted others: so these are not held up."""
    monkeypatch.setattr(refused, "MOST_BEHIND", 20)
    monkeypatch.setattr(lane, "MOST_BEHIND", 20)
    world = Picky(PUSHER_RECEIVER, lambda name: name in ("a.0", "c.0"))
    world.run(sent("c", 0), sent("a", 0), *(sent("a", number) for number in range(1, 31)), *of("b", 5))
    assert [facts for facts, _ in world.given_up] == [(sent("a", 0),), (sent("c", 0),)]
    assert world.accepted_of("a") == names("a", 31, begin=1)
    assert max(at_s for at_s, name in world.accepted if name[0] != "c") < 2


def test_only_so_many_facts_wait_behind_refused_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their reader waits beyond; while the receiver accepts nothing, none of them is given up for that."""
    monkeypatch.setattr(refused, "MOST_BEHIND", 20)
    monkeypatch.setattr(lane, "MOST_BEHIND", 20)
    most = 0

    def refuses(_: str) -> bool:
        nonlocal most
        most = max(most, world.lane._refused.behind)
        return world.now_s < 100

    world = Picky(PUSHER_RECEIVER, refuses)
    world.run(*of("a", 700))
    assert world.accepted_of("a") == names("a", 700)
    assert world.given_up == []
    assert 20 <= most <= 20 + lane.QUEUE


def test_a_fact_that_is_refused_for_very_long_is_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """When so many others were sent: a restart would send all of them again."""
    monkeypatch.setattr(refused, "MOST_SENT", 250)
    world = Picky(STANDARD_RECEIVER, lambda name: name == "a.0")
    world.run(*of("a", 3), *of("bc", 400))
    assert [facts for facts, _ in world.given_up] == [(sent("a", 0),)]
    sent_before = [name for at_s, name in world.accepted].index("a.1")
    assert 250 <= sent_before < 250 + 2 * lane.BATCH
    assert len(world.done) == 803


def test_a_receiver_that_is_down_makes_nothing_be_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last attempt failed, but was not refused."""
    monkeypatch.setattr(refused, "MOST_SENT", 250)

    def refuses(name: str) -> bool:
        if name == "a.0":
            world.status = 400 if len(world.accepted) < 250 else 503
        return name == "a.0" and world.now_s < 30

    world = Picky(STANDARD_RECEIVER, refuses)
    world.run(*of("a", 3), *of("bc", 400))
    assert world.given_up == []
    assert world.accepted_of("a") == names("a", 3)
    assert len(world.calls) < 60


def test_an_admin_has_a_fact_given_up_that_is_tried_at_this_moment() -> None:
    """As soon as the attempt has failed; it is asked for once."""
    asked: list[int] = []

    def refuses(name: str) -> bool:
        if name == "a.0" and len(world.refused) == 7:
            asked.extend((world.lane.give_up_refused(), world.lane.give_up_refused()))
        return name == "a.0"

    world = Picky(STANDARD_RECEIVER, refuses)
    world.run(*of("a", 2))
    assert asked == [1, 0]
    [(at_s, _)] = world.accepted
    assert at_s - world.refused[-1][0] < 1


def test_an_admin_has_refused_facts_given_up() -> None:
    """Those that are refused at this moment, without another attempt; what is behind them is sent."""
    world = Picky(STANDARD_RECEIVER, lambda name: name in ("a.0", "b.0", "c.0"))

    async def life() -> None:
        running = asyncio.get_running_loop().create_task(world.lane.run())
        for number, fact in enumerate(of("abc", 3)):
            await world.lane.put(Kept(0, number, fact), fact)
        while world.lane.refusals.count < 3 or world.now_s < 10:
            await asyncio.sleep(0)
        tries, asked_s = len(world.calls), world.now_s
        assert world.lane.give_up_refused() == 3
        while len(world.done) < 9:
            await asyncio.sleep(0)
        assert (len(world.calls) <= tries + 6, world.now_s < asked_s + 2) == (True, True)
        assert world.lane.give_up_refused() == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(life())
    assert sorted(fact.id for facts, _ in world.given_up for fact in facts) == ["a.0", "b.0", "c.0"]
    for channel in "abc":
        assert world.accepted_of(channel) == names(channel, 3, begin=1)


def test_a_channel_of_which_every_fact_is_refused_holds_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where little else is sent: each of its facts is given up as the next one needs room."""
    monkeypatch.setattr(refused, "MOST_BEHIND", 20)
    monkeypatch.setattr(lane, "MOST_BEHIND", 20)
    world = Picky(PUSHER_RECEIVER, lambda name: name[0] == "a")
    world.run(*of("ab", 3), *(sent("a", number) for number in range(3, 300)), *of("c", 3))
    assert max(at_s for at_s, _ in world.accepted) < 100
    given_up = [fact.id for facts, _ in world.given_up for fact in facts]
    assert given_up == names("a", 300)


def test_no_more_is_given_up_once_a_receiver_refuses_other_channels_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it may refuse everything from then on, and is mended later."""
    monkeypatch.setattr(refused, "MOST_BEHIND", 20)
    monkeypatch.setattr(lane, "MOST_BEHIND", 20)
    monkeypatch.setattr(lane, "QUEUE", 5)
    world = Picky(STANDARD_RECEIVER, lambda name: world.now_s < 200 and name[0] != "b")
    many = [sent("a", number) for number in range(3, 300)]
    world.run(*of("ab", 3), *many[:100], sent("c", 0), *many[100:])
    given_up = [fact.id for facts, _ in world.given_up for fact in facts]
    assert 0 < len(given_up) <= 100
    assert [*given_up, *world.accepted_of("a")] == names("a", 300)
    assert world.accepted_of("c") == ["c.0"]


@pytest.mark.parametrize("receiver", [STANDARD_RECEIVER, PUSHER_RECEIVER])
@pytest.mark.parametrize("seed", range(10))
def test_each_channel_is_sent_in_order_whatever_is_refused(
    receiver: Receiver, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some time each, or for good: each fact is accepted once, or given up, and none is lost."""
    monkeypatch.setattr(refused, "MOST_BEHIND", 30)
    monkeypatch.setattr(lane, "MOST_BEHIND", 30)
    draw = random.Random(seed)
    facts = [sent(draw.choice("abcdefghijkl"), number) for number in range(600)]
    longest_s = 1e9 if receiver is PUSHER_RECEIVER else 2000.0
    bad = {
        fact.id: draw.choice((0.5, 20.0, 200.0, longest_s))
        for fact in draw.sample(facts, draw.randint(1, 40))
    }
    world = Picky(receiver, lambda name: world.now_s < bad.get(name, 0.0), draw.choice((400, 500)))
    world.run(*facts)
    given_up = [fact.id for some, _ in world.given_up for fact in some]
    assert sorted([*given_up, *(name for _, name in world.accepted)]) == sorted(fact.id for fact in facts)
    assert sorted(world.done) == list(range(600))
    assert set(given_up) <= set(bad)
    for channel in "abcdefghijkl":
        numbers = [int(name.split(".")[1]) for name in world.accepted_of(channel)]
        assert numbers == sorted(numbers)
