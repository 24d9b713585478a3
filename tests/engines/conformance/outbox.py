"""What every `Outbox` must do."""

import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from tests.engines.conformance.lab import ALL_FACTS, ALL_KINDS, Lab

from channelstream.apps.keys import DEFAULT, make_key, make_member_key
from channelstream.apps.wanted_facts import AppFacts, WantedFacts
from channelstream.core.facts import ENDS, CacheMissed, ClientEvent, Fact, encode, kind_of, public_id
from channelstream.engines.members import Member
from channelstream.engines.outbox import Kept, OutboxSettings, passed

OpenLab = Callable[..., Lab]
TTL_S = 60.0


def kept(
    lab: Lab, after: tuple[int, ...] | None = None, limit: int = 1000, app_id: str = DEFAULT
) -> list[Kept]:
    outbox = lab.engine.outbox
    return lab.run(outbox.read(app_id, outbox.beginning if after is None else after, limit))


def forms_of(lab: Lab, *app_ids: str) -> list[tuple[str, ...]]:
    """Return the facts of some applications."""
    found = (kept(lab, app_id=app_id) for app_id in app_ids)
    return [fact_form(each.fact) for part in found for each in part if each.fact is not None]


def fact_form(fact: Fact) -> tuple[str, ...]:
    """Return a fact without its id and time."""
    names = ("channel", "user", "connection")
    return kind_of(fact), *(getattr(fact, name) for name in names if hasattr(fact, name))


def facts_of(lab: Lab, *places: str) -> list[tuple[str, ...]]:
    """Return the facts about some channels and users, in order."""
    facts = (each.fact for each in kept(lab))
    return [fact_form(fact) for fact in facts if fact is not None and fact.place in places]


def missed(*channels: str) -> list[Fact]:
    return [CacheMissed(id=f"of-{name}", at_ms=1, channel=name) for name in channels]


def ids_of(facts: Iterable[Kept]) -> list[str]:
    return sorted(each.fact.id for each in facts if each.fact is not None)


def test_membership_makes_facts(open_lab: OpenLab) -> None:
    """Of a channel, in their order: who joins first occupies it, who leaves last vacates it; also if all leave together."""
    lab = open_lab(outbox=ALL_FACTS)
    ann = lab.connect("ann", "a", notify_presence=True)
    second = lab.connect("ann", "a", conn_id="second")
    bob = lab.connect("bob", "a")
    lab.connect("cid", "b")
    lab.leave(ann, "a")
    lab.disconnect_all([second, bob], "a")
    found = facts_of(lab, "a")
    assert found[:3] == [("occupied", "a"), ("added", "a", "ann"), ("added", "a", "bob")]
    assert sorted(found[3:5]) == [("removed", "a", "ann"), ("removed", "a", "bob")]
    assert found[5:] == [("vacated", "a")]
    assert facts_of(lab, "b") == [("occupied", "b")]


def test_connections_and_users_make_facts(open_lab: OpenLab) -> None:
    """A user comes with the first connection and goes with the last; no fact has the id of a connection."""
    lab = open_lab(outbox=ALL_FACTS)
    ann = lab.connect("ann", "a")
    second = lab.connect("ann", conn_id="second")
    lab.disconnect(ann, "a")
    lab.disconnect(second)
    found = facts_of(lab, "ann")
    assert [each for each in found if len(each) == 2] == [("online", "ann"), ("offline", "ann")]
    assert sorted(each for each in found if len(each) == 3) == sorted(
        (kind, "ann", public_id(conn_id)) for kind in ("opened", "closed") for conn_id in ("of-ann", "second")
    )


def test_each_fact_has_an_id_and_a_time(open_lab: OpenLab) -> None:
    lab = open_lab(outbox=ALL_FACTS)
    for number in range(20):
        lab.connect(f"user{number}", f"channel{number}", notify_presence=True)
    facts = [each.fact for each in kept(lab) if each.fact is not None]
    assert len({fact.id for fact in facts}) == len(facts) == 80
    assert {fact.at_ms for fact in facts} == {round(lab.clock.wall() * 1000)}


def test_only_wanted_facts_are_made(open_lab: OpenLab) -> None:
    """Of the kinds and applications that are wanted, and not about what is hidden."""
    wanted = WantedFacts({
        DEFAULT: AppFacts(frozenset(("vacated", "opened")), hidden=("pusher/#", "-")),
        "shop": AppFacts(ALL_KINDS),
    })  # fmt: skip
    lab = open_lab(outbox=OutboxSettings(wanted))
    shop, other = make_key("shop", "a"), make_key("other", "a")
    names = ("a", "pusher/#secret", "-", shop, other)
    lab.disconnect(lab.connect("ann", *names, notify_presence=True), *names)
    lab.disconnect(lab.connect("-bob", conn_id="hidden"))
    assert sorted(forms_of(lab, DEFAULT, "shop", "other")) == sorted([
        ("occupied", "a"), ("vacated", "a"), ("occupied", shop), ("added", shop, "ann"), ("removed", shop, "ann"),
        ("vacated", shop), ("opened", "ann", public_id("of-ann")), ("closed", "ann", public_id("of-ann")),
    ])  # fmt: skip


@pytest.mark.parametrize("app_id", [DEFAULT, "shop"])
def test_a_member_under_another_name_is_reported_in_its_channel_only(open_lab: OpenLab, app_id: str) -> None:
    """It is no user of the application, and its seat is no connection for others."""
    lab = open_lab(outbox=OutboxSettings(WantedFacts({app_id: AppFacts(ALL_KINDS)})))
    channel, member = make_key(app_id, "a"), make_member_key(app_id, "a", "ann")
    lab.disconnect(lab.connect(member, channel, notify_presence=True, conn_id="seat"), channel)
    assert forms_of(lab, DEFAULT, "shop") == [
        ("occupied", channel), ("added", channel, member), ("removed", channel, member), ("vacated", channel),
    ]  # fmt: skip


@pytest.mark.parametrize("app_id", [DEFAULT, "shop"])
def test_a_connection_of_a_user_of_its_own_is_reported(open_lab: OpenLab, app_id: str) -> None:
    """But not that user, who is online as long as the connection is open."""
    lab = open_lab(outbox=OutboxSettings(WantedFacts({app_id: AppFacts(ALL_KINDS)})))
    user = make_member_key(app_id, "", "ann")
    lab.disconnect(lab.connect(user, conn_id="c"))
    assert forms_of(lab, DEFAULT, "shop") == [
        ("opened", user, public_id("c")), ("closed", user, public_id("c")),
    ]  # fmt: skip


def test_no_fact_is_made_if_none_is_wanted(lab: Lab) -> None:
    lab.disconnect(lab.connect("ann", "a", notify_presence=True), "a")
    assert kept(lab) == []
    assert lab.run(lab.engine.outbox.state()).facts == 0


def test_a_name_may_have_any_character(open_lab: OpenLab) -> None:
    """As stored and read."""
    name = 'ä\n"\t\\ \U0001f600'
    lab = open_lab(outbox=ALL_FACTS)
    lab.connect(name, name, notify_presence=True, conn_id="c")
    assert ("added", name, name) in facts_of(lab, name)


def test_a_node_appends_facts(lab: Lab) -> None:
    """Behind the others of the channel, whatever is wanted of members; their data is kept as it is."""
    sent = ClientEvent(
        id="i", at_ms=1, channel="a", event="client-x", data='{"a": "ä\\n"}' * 1000, socket="1.2", user="ann"
    )
    lab.run(lab.engine.outbox.append([*missed("a"), sent, *missed("b")]))
    lab.run(lab.engine.outbox.append([]))
    assert [each.fact for each in kept(lab) if each.fact and each.fact.place == "a"] == [*missed("a"), sent]
    assert len(kept(lab)) == 3


def test_facts_are_read_from_a_cursor_on(lab: Lab) -> None:
    """Oldest first, without being removed; at most so many of a shard."""
    names = [f"c{number}" for number in range(30)]
    lab.run(lab.engine.outbox.append(missed(*names)))
    cursor, found = lab.engine.outbox.beginning, list[Kept]()
    while some := kept(lab, cursor, limit=4):
        assert len(some) <= 4 * len(cursor)
        cursor, found = passed(cursor, some), found + some
    assert ids_of(found) == ids_of(kept(lab)) == sorted(f"of-{name}" for name in names)
    for shard in range(len(cursor)):
        numbers = [each.number for each in found if each.shard == shard]
        assert numbers == sorted(set(numbers))
    lab.run(lab.engine.outbox.append(missed("later")))
    assert ids_of(kept(lab, cursor)) == ["of-later"]


def test_facts_stay_until_all_consumers_have_passed_them(lab: Lab) -> None:
    """A consumer that is not named any more holds up nothing, and begins from the beginning if it comes back."""
    outbox = lab.engine.outbox
    lab.run(outbox.append(missed("a")))
    first = passed(outbox.beginning, kept(lab))
    lab.run(outbox.append(missed("a2", "b2", "c2")))
    last = passed(first, kept(lab, first))
    token = hold(lab)
    assert lab.run(outbox.cursors()) == {}
    assert lab.run(outbox.settle(token, {DEFAULT: {"one": last, "other": outbox.beginning}}))
    assert len(kept(lab)) == 4
    assert lab.run(outbox.cursors()) == {"one": last, "other": outbox.beginning}
    assert lab.run(outbox.settle(token, {DEFAULT: {"one": last, "other": first}}))
    assert ids_of(kept(lab)) == ["of-a2", "of-b2", "of-c2"]
    assert lab.run(outbox.settle(token, {DEFAULT: {"one": last}}))
    assert kept(lab) == []
    assert lab.run(outbox.cursors()) == {"one": last}
    lab.run(outbox.append(missed("a3")))
    assert ids_of(kept(lab, last)) == ["of-a3"]


def hold(lab: Lab) -> int:
    token = lab.run(lab.engine.outbox.hold(TTL_S))
    assert token is not None
    return token


def test_the_only_node_holds_the_lease(lab: Lab) -> None:
    """Again and again, with the same token; and after it has released it."""
    token = hold(lab)
    assert hold(lab) == token
    lab.run(lab.engine.outbox.release())
    assert hold(lab) >= token


def test_its_state_is_counted(lab: Lab) -> None:
    outbox = lab.engine.outbox
    lab.run(outbox.append(missed("a", "b")))
    state = lab.run(outbox.state())
    assert (state.facts, state.dropped) == (2, 0)
    assert 40 <= state.bytes <= 200
    lab.run(outbox.settle(hold(lab), {DEFAULT: {"one": passed(outbox.beginning, kept(lab))}}))
    state = lab.run(outbox.state())
    assert (state.facts, state.bytes) == (0, 0)


def test_too_many_facts_drop_the_oldest(open_lab: OpenLab) -> None:
    """Those of members as well, and they are counted; what comes next is read."""
    lab = open_lab(outbox=OutboxSettings(ALL_FACTS.wanted, most_facts=5))
    lab.run(lab.engine.outbox.append(missed(*"a" * 4)))
    for _ in range(3):
        lab.disconnect(lab.connect("a", "a"), "a")
    state = lab.run(lab.engine.outbox.state())
    assert max(Counter(each.shard for each in kept(lab)).values()) == 5
    assert state.dropped + state.facts == 4 + 3 * 6
    assert facts_of(lab, "a")[-1][0] in ("vacated", "offline", "closed")
    assert not [
        each
        for each in kept(lab)
        if each.fact and each.fact.place == "a" and fact_form(each.fact) == ("cache_miss", "a")
    ]


def test_too_many_bytes_drop_the_oldest(open_lab: OpenLab) -> None:
    lab = open_lab(outbox=OutboxSettings(most_bytes=1000))
    big: list[Fact] = [
        ClientEvent(id=f"i{number}", at_ms=1, channel="a", event="e", data="x" * 300) for number in range(9)
    ]
    lab.run(lab.engine.outbox.append(big))
    assert ids_of(kept(lab)) == ["i6", "i7", "i8"]
    state = lab.run(lab.engine.outbox.state())
    assert state.bytes <= 1000
    assert state.dropped == 6


def test_a_cursor_before_what_is_dropped_reads_the_rest(open_lab: OpenLab) -> None:
    lab = open_lab(outbox=OutboxSettings(most_facts=3))
    outbox = lab.engine.outbox
    lab.run(outbox.append(missed("a")))
    cursor = passed(outbox.beginning, kept(lab))
    lab.run(outbox.append(missed(*"a" * 9)))
    assert len(kept(lab, cursor)) == 3


def test_one_application_pushes_no_facts_of_another_out(open_lab: OpenLab) -> None:
    """However many wait for a receiver that is down; each has the bound for itself, also of facts about members."""
    lab = open_lab(outbox=OutboxSettings(WantedFacts({"shop": AppFacts(ALL_KINDS)}), most_facts=5))
    lab.run(lab.engine.outbox.append(missed("a", "b")))
    lab.run(lab.engine.outbox.append(missed(*[make_key("shop", "a")] * 9)))
    for _ in range(3):
        lab.disconnect(lab.connect(make_key("shop", "ann"), make_key("shop", "a")), make_key("shop", "a"))
    assert ids_of(kept(lab)) == ["of-a", "of-b"]
    of_shop = kept(lab, app_id="shop")
    assert max(Counter(each.shard for each in of_shop).values()) == 5
    state = lab.run(lab.engine.outbox.state())
    assert (state.facts, state.dropped) == (2 + len(of_shop), 9 + 3 * 6 - len(of_shop))


@pytest.mark.parametrize("bound", ["facts", "bytes"])
def test_all_applications_together_keep_only_so_much(open_lab: OpenLab, bound: str) -> None:
    """The one that keeps most loses its oldest; one with less than an equal share loses none."""
    size = len(encode(missed(make_key("big", "a"))[0]))
    total = {"total_facts": 300} if bound == "facts" else {"total_bytes": 300 * size}
    lab = open_lab(outbox=OutboxSettings(WantedFacts({"small": AppFacts(ALL_KINDS)}), **total))
    outbox = lab.engine.outbox
    few = [CacheMissed(id=f"i{number}", at_ms=1, channel=make_key("small", "a")) for number in range(60)]
    lab.run(outbox.append(few))
    for _ in range(4):
        for app_id in ("big", "two"):
            lab.run(outbox.append(missed(*[make_key(app_id, "a")] * 100)))
    lab.connect(make_key("small", "ann"), make_key("small", "a"))
    of_small = kept(lab, app_id="small")
    assert [each.fact for each in of_small if isinstance(each.fact, CacheMissed)] == few
    others = {app_id: kept(lab, app_id=app_id) for app_id in ("big", "two")}
    assert min(map(len, others.values())) > 60
    for app_id, some in others.items():
        [last] = lab.run(outbox.read(app_id, passed(outbox.beginning, some[:-1]), 1))
        assert last == some[-1]
    state, shards = lab.run(outbox.state()), len(outbox.beginning)
    assert state.facts == len(of_small) + sum(map(len, others.values()))
    assert state.facts + state.dropped == len(of_small) + 800
    assert state.dropped > 0
    assert (state.facts <= 300 * shards) if bound == "facts" else (state.bytes <= 300 * size * shards)


def test_one_application_holds_up_no_facts_of_another(lab: Lab) -> None:
    """What its consumers have passed is dropped, whatever those of another one have; without consumers all is."""
    outbox, shop = lab.engine.outbox, make_key("shop", "a")
    lab.run(outbox.append([*missed("a", shop), *missed("b", shop)]))
    last = passed(outbox.beginning, kept(lab))
    token = hold(lab)
    assert lab.run(outbox.settle(token, {DEFAULT: {"one": last}, "shop": {"other": outbox.beginning}}))
    assert (len(kept(lab)), len(kept(lab, app_id="shop"))) == (0, 2)
    assert lab.run(outbox.cursors()) == {"one": last, "other": outbox.beginning}
    assert lab.run(outbox.settle(token, {DEFAULT: {"one": last}}))
    assert kept(lab, app_id="shop") == []
    state = lab.run(outbox.state())
    assert (state.facts, state.bytes, state.dropped) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_facts_add_up_to_what_is(open_lab: OpenLab, seed: int) -> None:
    """Who joins, leaves and ends in any order: what has begun and not ended is what the engine has."""
    lab, draw = open_lab(outbox=ALL_FACTS), random.Random(seed)
    channels, users = [f"c{number}" for number in range(4)], [f"u{number}" for number in range(3)]
    joined: dict[Member, set[str]] = {}
    for name in channels:
        lab.configure(name, notify_presence=True)
    for number in range(120):
        kind = draw.choice("cjld")
        if kind == "c" or not joined:
            some = draw.sample(channels, 2)
            member = lab.connect(draw.choice(users), *some, conn_id=f"n{number}")
            joined[member] = set(some)
            continue
        member = draw.choice(sorted(joined, key=lambda each: each.conn_id))
        if kind == "d":
            lab.disconnect(member, *joined.pop(member))
        elif kind == "j" and (others := sorted(set(channels) - joined[member])):
            lab.join(member, others[0])
            joined[member].add(others[0])
        elif kind == "l" and joined[member]:
            name = min(joined[member])
            lab.leave(member, name)
            joined[member].discard(name)
    begun: Counter[tuple[str, ...]] = Counter()
    for each in kept(lab, limit=10_000):
        assert each.fact is not None
        kind, *subject = fact_form(each.fact)
        beginning = BEGINNING.get(kind)
        begun[beginning or kind, *subject] += -1 if beginning else 1
        assert begun[beginning or kind, *subject] in (0, 1), each
    what_is = {
        *(("occupied", name) for names in joined.values() for name in names),
        *(("added", name, member.user) for member, names in joined.items() for name in names),
        *(("online", member.user) for member in joined),
        *(("opened", member.user, public_id(member.conn_id)) for member in joined),
    }
    assert {key for key, count in begun.items() if count} == what_is


BEGINNING = {kind_of(ended): kind_of(begun) for begun, ended in ENDS.items()}
"""The kind of what each kind ends."""
