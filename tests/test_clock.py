"""The real clock and real ids."""

import re
import time
import uuid

from channelstream.clock import DRAWN, RandomIds, SystemClock, new_epoch


def test_the_clock_is_the_machines() -> None:
    """Wall time counts from 1970, steady time never goes back."""
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 60
    first = clock.steady()
    assert clock.steady() >= first


def test_ids_are_random_uuids() -> None:
    """Version 4, in their one form, and never the same; also where the random bytes are used up."""
    ids, others = RandomIds(), RandomIds()
    made = [ids.new() for _ in range(5 * DRAWN)] + [others.new() for _ in range(5 * DRAWN)]
    assert len(set(made)) == 10 * DRAWN
    assert {text[19] for text in made} == set("89ab")
    for text in made:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)


def test_two_epochs_differ() -> None:
    """Also two of the same millisecond, nearly always; they are hexadecimal and hold no hyphen."""
    made = [new_epoch() for _ in range(20)]
    assert len(set(made)) > 1
    assert all(re.fullmatch(r"[0-9a-f]{12,}", text) for text in made)
