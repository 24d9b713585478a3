"""Merges the notes of several nodes about one subject into one list, by time.

Each node notes the outcomes of an event for its own connections. Together they are one note, with the outcomes of all.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice

import msgspec
from msgspec import Struct

from channelstream.core.explain import Fate, rank
from channelstream.core.trace import MAX_OUTCOMES, NOTES_PER_ANSWER, Fact, FactKind, Note

ABSENT = frozenset((Fate.NO_CONNECTION, Fate.NO_MEMBERS, Fate.NO_ADDRESSEE))
"""The fates of an event for which a node has no connection; another node may have one."""


class MergedNote(Struct, frozen=True):
    """A fact, with the nodes that have noted it and the time of the first.

    Attributes:
        number: that of the note at the first of the nodes.
    """

    number: int
    at_s: float
    fact: Fact
    nodes: tuple[str, ...]


def oldest(notes: Mapping[str, Sequence[Note]]) -> list[tuple[str, Note]]:
    """Return the oldest notes of all nodes with the node of each, at most `NOTES_PER_ANSWER`.

    Of each node they are the first ones, so that reading can continue after the last of them.
    """
    return list(islice(_by_time(notes), NOTES_PER_ANSWER))


def newest(notes: Mapping[str, Sequence[Note]]) -> list[tuple[str, Note]]:
    """Return the newest notes of all nodes with the node of each, oldest first, at most `NOTES_PER_ANSWER`."""
    return list(_by_time(notes))[-NOTES_PER_ANSWER:]


def merge_notes(notes: Sequence[tuple[str, Note]]) -> list[MergedNote]:
    """Return the notes with those of one event as one, where the first of them was."""
    groups: dict[object, list[tuple[str, Note]]] = {}
    for node, note in notes:
        groups.setdefault(_event_of(note.fact) or (node, note.number), []).append((node, note))
    return list(map(_merged, groups.values()))


def _by_time(notes: Mapping[str, Sequence[Note]]) -> Iterator[tuple[str, Note]]:
    pairs = ([(node, note) for note in each] for node, each in notes.items())
    return merge(*pairs, key=lambda pair: pair[1].at_s)


def _event_of(fact: Fact) -> tuple[str | None, ...] | None:
    """Return what the notes of one accepted event have in common; None for other facts."""
    if fact.what is not FactKind.ACCEPTED:
        return None
    return fact.type, fact.uuid, fact.position


def _merged(group: Sequence[tuple[str, Note]]) -> MergedNote:
    first = group[0][1]
    facts = [note.fact for _, note in group]
    fact = first.fact if len(facts) == 1 else _together(facts)
    return MergedNote(first.number, first.at_s, fact, tuple(node for node, _ in group))


def _together(facts: Sequence[Fact]) -> Fact:
    """Return the fact of an event with the outcomes at all nodes."""
    outcomes = [each for fact in facts for each in fact.outcomes]
    found = [each for each in outcomes if each.fate not in ABSENT]
    absent = [each for each in facts[0].outcomes if each.fate in ABSENT]
    everywhere = [each for each in absent if all(each in fact.outcomes for fact in facts)]
    merged = sorted((*found, *everywhere), key=rank)
    counts = _sum(facts)
    if sum(sum(fact.counts.values()) for fact in facts) == len(outcomes):
        counts = dict(Counter(each.fate.value for each in merged))
    # A node may have dropped it, and another one not.
    payload = next((fact.payload for fact in facts if fact.payload is not None), None)
    return msgspec.structs.replace(
        facts[0], outcomes=tuple(merged[:MAX_OUTCOMES]), counts=counts, payload=payload
    )


def _sum(facts: Sequence[Fact]) -> dict[str, int]:
    """Return the sums of the outcomes. Who is absent is so at all nodes: at most as often as at the one with the fewest."""
    counts: Counter[str] = Counter()
    for fact in facts:
        counts.update(fact.counts)
    for fate in ABSENT:
        counts[fate.value] = min(fact.counts.get(fate.value, 0) for fact in facts)
    return {fate: count for fate, count in counts.items() if count}
