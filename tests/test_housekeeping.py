"""When connections may expire, and what the log says of work that is delayed."""

import asyncio

import pytest
from tests.service.test_local import timed_node
from tests.waiting import PATIENCE_S

from channelstream import housekeeping
from channelstream.core.line_limit import MINUTE_S
from channelstream.errors import Unavailable
from channelstream.housekeeping import BEHIND_S, POSTPONED_S, Housekeeping, Rounds


@pytest.mark.parametrize("late_s", [-0.1, 0.0, BEHIND_S - 0.01])
def test_they_expire_in_rounds_on_time(late_s: float) -> None:
    """A round that begins a little late is one."""
    assert Rounds(100.0).may_expire(101.0, 101.0 + late_s)


def test_they_do_not_expire_while_the_loop_is_behind() -> None:
    """Their clients may have sent what the loop has not read; it has after the first round on time."""
    rounds = Rounds(100.0)
    assert not rounds.may_expire(101.0, 104.0)
    assert not rounds.may_expire(105.0, 109.0)
    assert rounds.may_expire(109.25, 109.26)
    assert not rounds.may_expire(110.0, 112.0)


def test_a_loop_that_is_always_behind_keeps_no_one_for_ever() -> None:
    """After `POSTPONED_S` without a round on time, and again in each further round."""
    rounds = Rounds(100.0)
    begun_s = [100.0 + 10 * number for number in range(1, 30)]
    expired_s = [now_s for now_s in begun_s if rounds.may_expire(now_s - 9, now_s)]
    assert expired_s == [now_s for now_s in begun_s if now_s > 100 + POSTPONED_S]


def test_delayed_work_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is tried: an engine may be out of reach for hours. The next line says how many were left out."""
    monkeypatch.setattr(housekeeping, "SWEEP_INTERVAL_S", 0.0)

    async def scene() -> None:
        node, clock = await timed_node()
        tried, enough = 0, asyncio.Event()

        async def work() -> None:
            nonlocal tried
            tried += 1
            if tried == 5:
                clock.passed_s += MINUTE_S
            if tried == 10:
                enough.set()
            raise Unavailable("The engine is out of reach.")

        works = Housekeeping(node, [work])
        works.start()
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        await works.stop()

    asyncio.run(scene())
    line = "housekeeping is delayed, the engine is not available: The engine is out of reach."
    assert caplog.messages == [line, f"{line}; 3 more not logged"]
