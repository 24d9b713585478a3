"""Notes of several nodes about one subject become one list."""

from msgspec.structs import replace

from channelstream.core.explain import Fate, Outcome
from channelstream.core.trace import MAX_OUTCOMES, NOTES_PER_ANSWER, Fact, FactKind, Note
from channelstream.core.trace_merging import MergedNote, merge_notes, newest, oldest


def accepted(number: int, *outcomes: Outcome, counts: dict[str, int] | None = None) -> Note:
    """A note about the same event whichever node has it."""
    counted = counts or {
        fate: [each.fate.value for each in outcomes].count(fate) for fate in _fates(outcomes)
    }
    fact = Fact(
        what=FactKind.ACCEPTED, type="message", uuid="m", position="e-1", outcomes=outcomes, counts=counted
    )
    return Note(number, 1.0, fact)


def _fates(outcomes: tuple[Outcome, ...]) -> list[str]:
    return list(dict.fromkeys(each.fate.value for each in outcomes))


def merged(*notes: Note) -> Fact:
    [found] = merge_notes([(f"node {number}", note) for number, note in enumerate(notes)])
    assert found.nodes == tuple(f"node {number}" for number in range(len(notes)))
    return found.fact


def test_an_event_is_one_note_with_the_outcomes_of_all_nodes() -> None:
    """What was not delivered comes first, from whichever node."""
    here, there = Outcome(Fate.DELIVERED, "a", "ann"), Outcome(Fate.SLOW, "b", "bob")
    fact = merged(accepted(1, here), accepted(7, there))
    assert fact.outcomes == (there, here)
    assert fact.counts == {Fate.DELIVERED.value: 1, Fate.SLOW.value: 1}


def test_a_user_who_is_at_two_nodes_received_it_at_both() -> None:
    """Its connections are counted apart, as those at one node are."""
    fact = merged(accepted(1, here := Outcome(Fate.DELIVERED, "a", "ann")), accepted(1, here))
    assert (fact.outcomes, fact.counts) == ((here, here), {Fate.DELIVERED.value: 2})


def test_who_is_at_one_node_is_not_absent() -> None:
    """A channel has members if it has some at any node; a user is absent who is so at all of them, and is named once."""
    members, none = Outcome(Fate.DELIVERED, "a", "ann"), Outcome(Fate.NO_MEMBERS)
    assert merged(accepted(1, none), accepted(1, members)).outcomes == (members,)
    assert merged(accepted(1, none), accepted(1, none)).counts == {Fate.NO_MEMBERS.value: 1}
    bob, zoe = (Outcome(Fate.NO_CONNECTION, user=user) for user in ("bob", "zoe"))
    assert set(merged(accepted(1, members, zoe), accepted(1, bob, zoe)).outcomes) == {members, zoe}
    assert merged(accepted(1, bob), accepted(1, zoe)).counts == {}


def test_outcomes_that_are_only_counted_are_added() -> None:
    """More than a note names."""
    many = tuple(Outcome(Fate.DELIVERED, str(number), "ann") for number in range(MAX_OUTCOMES))
    lone, absent = Outcome(Fate.NEW, "new", "bob"), {Fate.NO_CONNECTION.value: 2}
    fact = merged(
        accepted(1, *many, counts={Fate.DELIVERED.value: 500}),
        accepted(1, lone, counts={Fate.NEW.value: 1, **absent}),
    )
    assert fact.outcomes == (lone, *many[:-1])
    assert fact.counts == {Fate.DELIVERED.value: 500, Fate.NEW.value: 1}


def test_a_payload_is_that_of_any_node_that_has_it() -> None:
    """A node may have dropped it."""
    without, with_it = accepted(1), accepted(1)
    with_it = replace(with_it, fact=replace(with_it.fact, payload="1"))
    assert merged(without, with_it).payload == merged(with_it, without).payload == "1"
    assert merged(without, without).payload is None


def test_an_event_has_the_number_and_the_time_of_its_first_note() -> None:
    """That of the node where it was accepted first."""
    later = replace(accepted(7), at_s=2.0)
    assert merge_notes([("one", accepted(3)), ("other", later)]) == [
        MergedNote(3, 1.0, accepted(3).fact, ("one", "other"))
    ]


def test_other_facts_stay_apart() -> None:
    """Each with its node."""
    notes = [Note(number, 1.0, Fact(what=FactKind.SLOW)) for number in (1, 2)]
    pairs = [("one", notes[0]), ("one", notes[1]), ("other", notes[0])]
    assert merge_notes(pairs) == [MergedNote(note.number, 1.0, note.fact, (node,)) for node, note in pairs]


def test_notes_are_picked_by_time() -> None:
    """As many as one answer has, in order."""
    times = {"even": range(0, 2 * NOTES_PER_ANSWER, 2), "odd": range(1, 2 * NOTES_PER_ANSWER, 2)}
    notes = {
        node: [Note(at + 1, float(at), Fact(what=FactKind.SLOW)) for at in each]
        for node, each in times.items()
    }
    assert [note.at_s for _, note in oldest(notes)] == list(range(NOTES_PER_ANSWER))
    found = newest(notes)
    assert [note.at_s for _, note in found] == list(range(NOTES_PER_ANSWER, 2 * NOTES_PER_ANSWER))
    assert {node for node, note in found if note.at_s % 2} == {"odd"}
