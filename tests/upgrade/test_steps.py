"""The steps of a hand-over: whatever fails before the commit, the old process goes on and the new one is dead."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from tests.upgrade.two_sides import SNAPSHOT, STATE, TERMS_GIVEN, Stage, Steps

from channelstream import __version__
from channelstream.config import Settings
from channelstream.errors import CannotHandOver, ConfigError
from channelstream.lifecycle import upgrade_limits
from channelstream.supervisor.renewal import Kept
from channelstream.upgrade.giving import Limits
from channelstream.upgrade.line import Part
from channelstream.upgrade.messages import (
    BEGUN,
    BUILT,
    COMMIT,
    COPIED,
    END,
    HELLO,
    READY,
    SET,
    TERMS,
    Hello,
    Report,
    Terms,
    kept_options,
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    for line in (made.ours, made.theirs):
        line.close()


def test_everything_is_handed_over_in_order(stage: Stage) -> None:
    """Copies are built before anything is frozen, and the name of the old process is free before the new one may begin."""
    report = asyncio.run(stage.run())
    assert stage.steps[:4] == ["hold streams", "freeze", "prepared", "name"]
    assert sorted(stage.steps[4:]) == ["attach", "begin", "release"]
    assert stage.new.taken == [STATE[0], Part(BUILT), STATE[0], Part(BUILT), STATE[1]]
    assert (report.old_version, report.version, report.tally) == (
        __version__,
        __version__,
        {"websocket": 2},
    )
    assert stage.take_over.upgrades == {"done": 3}


def test_the_address_stays_that_of_the_sockets(stage: Stage) -> None:
    """Whatever the configuration of the new process says; its other options hold."""

    async def successor() -> None:
        own = Settings(port=9, host="::1", secret="new", cookie_secret="")
        kept.append(await stage.take_over.introduce(SNAPSHOT, own))
        stage.theirs.close()

    kept: list[Settings] = []
    with pytest.raises(CannotHandOver):
        asyncio.run(stage.run(successor))
    [settings] = kept
    assert (settings.host, settings.port, settings.secret) == ("127.0.0.1", 8001, "new")
    assert settings.cookie_secret == "of the old process"


@pytest.mark.parametrize(
    ("configured", "changes"),
    [
        ({"port": 9, "host": "::1"}, "host from '127.0.0.1' to '::1', port from 8001 to 9"),
        ({"port": 8001, "unix_socket": "/run/x"}, "unix_socket from '' to '/run/x'"),
        ({"port": 0, "metrics_port": 7}, "metrics_port from 0 to 7"),
        ({"port": 8001, "cookie_secret": "another", "poll_timeout_s": 3}, ""),
    ],
)
def test_who_asks_learns_what_an_upgrade_does_not_change(
    stage: Stage, configured: dict[str, Any], changes: str
) -> None:
    """The new process goes on at the old addresses; a port of 0 takes any."""
    report = asyncio.run(stage.run(partial(stage.succeed, Settings(**configured))))
    assert report.not_changed == stage.take_over.not_changed
    assert changes in report.not_changed
    assert bool(changes) == report.not_changed.endswith("restart the service for that")


def test_a_key_of_cookies_that_is_configured_now_holds() -> None:
    """For the parent of workers as for a new process: a browser's next request may go to any worker."""
    kept = Kept(
        **kept_options(Settings(port=8001, cookie_secret="old")),
        slots=[], reserved=[], for_scrapers=[], directory=None, retiring=[], requester=None,
        report=Report("1", "2", 9, {}, 0.5, 0.6),
    )  # fmt: skip
    for options in (TERMS_GIVEN, kept):
        settings = options.applied_to(Settings(port=9, cookie_secret="new"))
        assert (settings.port, settings.cookie_secret) == (8001, "new")
        assert options.applied_to(Settings(port=9)).cookie_secret == options.cookie_secret


def test_a_configuration_that_is_unsafe_at_the_address_is_refused(stage: Stage) -> None:
    """The defaults are accepted on loopback only, and the sockets may be of all addresses."""

    async def both() -> None:
        public = Terms(**(_fields(TERMS_GIVEN) | {"host": "0.0.0.0"}))
        await stage.ours.send(public.part(TERMS))
        await stage.take_over.introduce(SNAPSHOT, Settings())

    with pytest.raises(ConfigError, match="secret"):
        asyncio.run(both())


def _fields(terms: Terms) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in terms.__struct_fields__}


def test_another_version_of_the_state_is_refused_before_anything_is_frozen(stage: Stage) -> None:
    """The reason names both, and what to do."""

    async def successor() -> None:
        await stage.take_over.introduce(SNAPSHOT + 1, Settings())

    with pytest.raises(
        CannotHandOver, match=r"another version of the state \(8, here 7\); restart the service"
    ):
        asyncio.run(stage.run(successor))
    assert stage.steps == ["kill"]


@pytest.mark.parametrize("said", ["sent", HELLO, SET, READY])
def test_a_process_that_ends_at_any_step_changes_nothing(stage: Stage, said: str) -> None:
    """It is dead before the old one goes on, and its exit code is in the reason. `said`: the last it has sent."""

    async def successor() -> None:
        if said != "sent":
            await stage.theirs.send(Hello(SNAPSHOT, "2", 1).part(HELLO))
        if said in {SET, READY}:
            await stage.theirs.receive()
            await stage.theirs.send(Part(SET))
        if said == READY:
            while (kind := (await stage.theirs.receive()).kind) != END:
                if kind == COPIED:
                    await stage.theirs.send(Part(BUILT))
        stage.theirs.close()

    with pytest.raises(CannotHandOver, match=r"has ended \(exit code 3\)"):
        asyncio.run(stage.run(successor))
    expected = {SET: ["kill", "thaw"], READY: ["hold streams", "freeze", "kill", "thaw"]}
    assert stage.steps == expected.get(said, ["kill"])
    assert not stage.has_committed


def test_the_reason_of_the_new_process_is_reported(stage: Stage) -> None:
    """It could not use the state."""

    def refuse() -> None:
        raise CannotHandOver("the engine has changed")

    async def successor() -> None:
        try:
            await stage.succeed()
        except CannotHandOver as error:
            await stage.take_over.refuse(str(error))

    stage.new.in_prepared = refuse
    with pytest.raises(CannotHandOver, match=r"^the engine has changed$"):
        asyncio.run(stage.run(successor))
    assert stage.steps == ["hold streams", "freeze", "prepared", "kill", "thaw"]


@pytest.mark.parametrize(
    ("limits", "reason", "steps"),
    [
        (Limits(start_s=0), "has not started within 0 s", ["kill"]),
        (
            Limits(frozen_s=0),
            "has not taken the state over within 0 s",
            ["hold streams", "freeze", "kill", "thaw"],
        ),
        (
            Limits(apart_s=0),
            "has not taken the state over within 0 s",
            ["hold streams", "freeze", "kill", "thaw"],
        ),
    ],
)
def test_each_step_has_a_time_limit(stage: Stage, limits: Limits, reason: str, steps: Steps) -> None:
    """A process that hangs is killed."""

    async def successor() -> None:
        if limits.start_s:
            await stage.theirs.send(Hello(SNAPSHOT, "2", 1).part(HELLO))
            await stage.theirs.receive()
            for part in (SET, BUILT, BUILT):
                await stage.theirs.send(Part(part))
        await asyncio.Event().wait()

    with pytest.raises(CannotHandOver, match=reason):
        asyncio.run(stage.run(successor, limits))
    assert stage.steps == steps


@pytest.mark.parametrize(
    ("lease_s", "is_single", "apart_s"),
    [(1.0, False, 0.5), (10.0, False, 5.0), (60.0, False, 30.0), (1.0, True, 10.6)],
)
def test_a_node_among_others_is_apart_for_half_of_its_lease(
    lease_s: float, is_single: bool, apart_s: float
) -> None:
    """Else the others would take it for dead, and announce its users as parted."""
    assert upgrade_limits(Settings(node_lease_s=lease_s), is_single).apart_s == apart_s


def test_a_copy_that_takes_too_long_is_not_called_a_start(stage: Stage) -> None:
    """The new process had started; no more is held than before."""

    async def copy() -> AsyncIterator[Part]:
        yield STATE[0]
        raise TimeoutError

    stage.old.copy = copy  # type: ignore[method-assign]
    with pytest.raises(CannotHandOver, match=r"has not built everything from a copy within 60 s"):
        asyncio.run(stage.run())
    assert stage.steps == ["kill", "thaw"]


def test_a_state_that_does_not_freeze_is_not_handed_over(stage: Stage) -> None:
    """The old process goes on."""

    async def refuse() -> None:
        raise CannotHandOver("a request takes longer than 0.3 s")

    stage.old.before_freeze = refuse
    with pytest.raises(CannotHandOver, match="a request takes longer"):
        asyncio.run(stage.run())
    assert stage.steps == ["hold streams", "freeze", "kill", "thaw"]


def test_a_fault_of_ours_leaves_the_old_process_whole(stage: Stage) -> None:
    """Also one that nobody has foreseen."""

    async def fail() -> None:
        raise ZeroDivisionError

    stage.old.before_freeze = fail
    with pytest.raises(ZeroDivisionError):
        asyncio.run(stage.run())
    assert stage.steps == ["hold streams", "freeze", "kill", "thaw"]


def test_an_old_process_that_is_stopped_takes_everything_back(stage: Stage) -> None:
    """It stops by itself then: its streams are closed as in any drain."""

    async def stop() -> None:
        running = asyncio.current_task()
        assert running is not None
        running.cancel()
        await asyncio.sleep(0)

    stage.old.before_freeze = stop
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stage.run())
    assert stage.steps == ["hold streams", "freeze", "kill", "thaw"]


def test_an_old_process_that_dies_after_it_was_answered_has_committed(stage: Stage) -> None:
    """Nobody else has the state."""

    async def both() -> None:
        await stage.ours.send(Part(END))
        taking = asyncio.get_running_loop().create_task(stage.take_over.take(stage.new))
        assert [(await stage.ours.receive()).kind for _ in range(2)] == [SET, READY]
        stage.ours.close()
        await taking
        await stage.take_over.report_begun()

    asyncio.run(both())
    assert stage.steps == ["prepared"]


@pytest.mark.parametrize("parts", [[], [Part("state", b"1")], [Part("state", b"1"), Part("odd")]])
def test_an_old_process_that_dies_earlier_keeps_its_sockets(stage: Stage, parts: list[Part]) -> None:
    """Those that came are not used: the state is not whole."""

    async def both() -> None:
        for part in parts:
            await stage.ours.send(part)
        stage.ours.close()
        await stage.take_over.take(stage.new)

    with pytest.raises(CannotHandOver, match=r"has ended|out of reach"):
        asyncio.run(both())
    assert stage.steps == []


@pytest.mark.parametrize("kind", [BEGUN, COMMIT, "odd"])
def test_the_old_process_takes_no_message_out_of_order(stage: Stage, kind: str) -> None:
    """It goes on."""

    async def successor() -> None:
        await stage.theirs.send(Part(kind))
        await asyncio.Event().wait()

    with pytest.raises(CannotHandOver, match=f"has sent '{kind}' where 'hello' is due"):
        asyncio.run(stage.run(successor))


@pytest.mark.parametrize("kind", [END, COMMIT, "odd"])
def test_the_new_process_takes_no_message_out_of_order(stage: Stage, kind: str) -> None:
    """It ends."""

    async def both() -> None:
        await stage.ours.send(Part(kind))
        await stage.take_over.introduce(SNAPSHOT, Settings())

    with pytest.raises(CannotHandOver, match=f"has sent '{kind}' where 'terms' is due"):
        asyncio.run(both())


@pytest.mark.parametrize(
    ("hangs", "reason"), [(False, "the other process has ended"), (True, "the new process has not begun")]
)
def test_a_process_that_does_not_begin_is_a_failure_that_nothing_takes_back(
    stage: Stage, hangs: bool, reason: str
) -> None:
    """What it was handed is with it. It is dead: one that hangs would hold the address of the service, which then ends."""

    async def successor() -> None:
        await stage.take_over.introduce(SNAPSHOT, Settings())
        await stage.take_over.take(stage.new)
        if hangs:
            await asyncio.Event().wait()
        stage.theirs.close()

    limits = Limits(begin_s=0.0 if hangs else 60.0)
    with pytest.raises(CannotHandOver, match=reason):
        asyncio.run(stage.run(successor, limits))
    assert stage.has_committed
    assert stage.steps[:4] == ["hold streams", "freeze", "prepared", "name"]
    assert stage.steps[-1] == "kill"


@pytest.mark.parametrize("limit_s", [0, 60])
def test_streams_that_are_continued_for_long_are_no_failure(stage: Stage, limit_s: float) -> None:
    """The new process answers calls: the report says how long they waited."""

    async def successor() -> None:
        await stage.take_over.introduce(SNAPSHOT, Settings())
        await stage.take_over.take(stage.new)
        stage.now_s += 0.25
        await stage.take_over.report_begun()
        if limit_s:
            await stage.take_over.report_attached()

    report = asyncio.run(stage.run(successor, Limits(attach_s=limit_s)))
    assert report.waits == (
        "calls waited for 250 ms, and all streams were served again after 250 ms"
        if limit_s
        else "calls waited for 250 ms, and streams are still continued one after the other"
    )


def test_a_process_that_ends_with_an_unread_commit_has_not_begun(stage: Stage) -> None:
    """It was sent, and nothing is touched before the answer: so the old process goes on."""

    async def successor() -> None:
        await stage.take_over.introduce(SNAPSHOT, Settings())
        await stage.theirs.send(Part(SET))
        while (kind := (await stage.theirs.receive()).kind) != END:
            if kind == COPIED:
                await stage.theirs.send(Part(BUILT))
        await stage.theirs.send(Part(READY))
        while not is_readable(stage.theirs.socket):
            await asyncio.sleep(0)
        stage.theirs.close()

    with pytest.raises(CannotHandOver, match=r"the new process has ended \(exit code 3\)"):
        asyncio.run(stage.run(successor))
    assert not stage.has_committed
    assert stage.steps == ["hold streams", "freeze", "name", "kill", "thaw", "name again"]


def is_readable(end: socket.socket) -> bool:
    return bool(select.select([end], [], [], 0)[0])


def test_a_process_that_ends_before_the_commit_has_not_begun(stage: Stage) -> None:
    """The commit does not reach it, so the old process goes on, under its name."""

    async def successor() -> None:
        await stage.take_over.introduce(SNAPSHOT, Settings())
        await stage.take_over.take(stage.new)

    # In the turn of the commit, when the old process has read that the new one is ready.
    stage.on_name = stage.theirs.socket.close
    with pytest.raises(CannotHandOver, match=r"the new process has ended \(exit code 3\)"):
        asyncio.run(stage.run(successor))
    assert not stage.has_committed
    assert stage.steps == ["hold streams", "freeze", "prepared", "name", "kill", "thaw", "name again"]


def test_the_forms_of_messages_are_checked() -> None:
    """A newer version may send more than is read, not less."""
    with pytest.raises(CannotHandOver, match="another form of hello"):
        Hello.of(Part(HELLO, b"{}"))
    assert Hello.of(Part(HELLO, b'{"snapshot":1,"version":"3","pid":5,"more":[]}')) == Hello(1, "3", 5)
