"""The record of ended streams."""

from itertools import islice

from channelstream.core.endings import Ending, Endings


def ending(number: int, conn_id: str = "a") -> Ending:
    return Ending(float(number), conn_id, "ann", 4008, "too slow", final=False)


def test_the_latest_come_first() -> None:
    """Endings are listed newest first, as many as asked for."""
    endings = Endings()
    for number in range(5):
        endings.add(ending(number))
    assert [each.at_s for each in islice(endings, 3)] == [4.0, 3.0, 2.0]


def test_the_oldest_is_forgotten() -> None:
    """At the bound the oldest makes room."""
    endings = Endings(kept=2)
    for number in range(3):
        endings.add(ending(number))
    assert [each.at_s for each in islice(endings, 10)] == [2.0, 1.0]


def test_a_connection_has_its_own() -> None:
    """Only endings of this connection are listed, up to the count."""
    endings = Endings()
    for number in range(6):
        endings.add(ending(number, "ab"[number % 2]))
    assert [each.at_s for each in endings.of("b", 2)] == [5.0, 3.0]
