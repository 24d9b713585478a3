"""The socket on which a running server is asked to upgrade."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.descriptors import few_descriptors, lowest_free
from tests.nursery import nursery
from tests.waiting import PATIENCE_S

from channelstream.cli.upgrade import run
from channelstream.config import Settings
from channelstream.errors import CannotHandOver, ConfigError, PeerEnded
from channelstream.upgrade import control
from channelstream.upgrade.control import MAX_REQUESTS, Control, ask_to_upgrade, name_of, user_of
from channelstream.upgrade.line import Line, Part
from channelstream.upgrade.messages import Report

REPORT = Report("1", "2", 7, {"websocket": 1}, 0.1, 0.2)


@pytest.fixture
def settings() -> Settings:
    """Those of a server that no other test has."""
    return Settings(unix_socket=f"/nowhere/{uuid4()}")


async def upgraded() -> Report:
    return REPORT


def play(
    settings: Settings,
    scenario: Callable[[Control], Coroutine[Any, Any, None]],
    upgrade: Callable[[], Coroutine[Any, Any, Report]] = upgraded,
) -> None:
    async def run() -> None:
        asked = Control(upgrade)
        asked.listen(settings)
        try:
            await scenario(asked)
        finally:
            await asked.close()

    asyncio.run(run())


def test_a_request_is_answered_with_the_report(settings: Settings) -> None:
    """And no process answers any more when it has stopped listening, while it still answers what was asked."""

    async def scenario(asked: Control) -> None:
        assert await ask_to_upgrade(settings) == REPORT
        waiting = asyncio.create_task(ask_to_upgrade(settings))
        await started.wait()
        asked.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await ask_to_upgrade(settings)
        go_on.set()
        assert await waiting == REPORT

    async def upgrade() -> Report:
        nonlocal calls
        calls += 1
        if calls == 2:
            started.set()
            await go_on.wait()
        return REPORT

    calls, started, go_on = 0, asyncio.Event(), asyncio.Event()
    play(settings, scenario, upgrade)


def test_a_process_that_goes_on_after_all_has_its_name_again(settings: Settings) -> None:
    """One that had none stays without."""

    async def scenario(asked: Control) -> None:
        asked.stop_listening()
        asked.listen_again()
        asked.listen_again()
        assert await ask_to_upgrade(settings) == REPORT
        nameless = Control(upgraded)
        nameless.listen_again()
        assert nameless._listening is None

    play(settings, scenario)


@pytest.mark.parametrize("turns", range(4))
def test_who_connects_as_the_listening_ends_is_let_go(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """So many turns of the loop before it; a socket that stayed open would be a warning, which fails the test."""
    monkeypatch.setattr(control, "REQUEST_S", 0.0)

    async def scenario(asked: Control) -> None:
        await asyncio.sleep(0)
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(name_of(settings))
            for _ in range(turns):
                await asyncio.sleep(0)
            asked.stop_listening()
            with pytest.raises(PeerEnded):
                await Line(connected).receive()

    play(settings, scenario)


def test_a_request_that_finds_no_descriptor_is_answered_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as there is one."""
    monkeypatch.setattr(control, "PAUSE_S", 0.0)

    async def scenario(asked: Control) -> None:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(name_of(settings))
            line = Line(connected)
            await line.send(Part("upgrade"))
            with few_descriptors(lowest_free()):
                for _ in range(3):
                    await asyncio.sleep(0)
            assert not asked._answering
            assert (await line.receive()).kind == "report"

    play(settings, scenario)


def test_a_failure_is_answered_with_its_reason(settings: Settings) -> None:
    """So is a request of another version."""

    async def fail() -> Report:
        raise CannotHandOver("the reason")

    async def scenario(_asked: Control) -> None:
        with pytest.raises(CannotHandOver, match=r"^the reason$"):
            await ask_to_upgrade(settings)
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(name_of(settings))
            line = Line(connected)
            await line.send(Part("odd"))
            assert (await line.receive()).kind == "failed"

    play(settings, scenario, fail)


def test_the_command_does_not_claim_that_a_server_goes_on_that_has_ended(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had handed everything over, and the new process has failed."""

    async def fail() -> Report:
        raise PeerEnded("the \x1b[2Jreason")

    async def scenario(_asked: Control) -> None:
        code = await asyncio.to_thread(run, ["--unix-socket", settings.unix_socket], {})
        assert (code, capsys.readouterr().err) == (
            1,
            f"channelstream: the server at unix:{settings.unix_socket} has ended, or stops; its log has more:"
            " the \\x1b[2Jreason\n",
        )

    play(settings, scenario, fail)


def test_a_server_that_does_not_answer_is_reported(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command does not wait for longer than all steps may take, and does not say what it cannot know."""

    async def hang() -> Report:
        await answered.wait()
        return REPORT

    async def scenario(_asked: Control) -> None:
        code = await asyncio.to_thread(run, ["--unix-socket", settings.unix_socket], {})
        answered.set()
        assert (code, capsys.readouterr().err) == (
            1,
            f"channelstream: the server at unix:{settings.unix_socket} has not answered within 0.6 s: see its log\n",
        )

    answered = asyncio.Event()
    monkeypatch.setattr(control, "PROCESS_S", 0)
    play(settings, scenario, hang)


@pytest.mark.parametrize(("environ", "code"), [({"MAINPID": "7"}, 0), ({}, -signal.SIGTERM)])
def test_a_reload_that_systemd_ends_has_not_failed(
    settings: Settings, environ: dict[str, str], code: int
) -> None:
    """`systemctl stop` meanwhile sends SIGTERM to the command as well, and would call the service failed."""

    async def hang() -> Report:
        asked.set()
        await ended.wait()
        return REPORT

    async def scenario(_asked: Control) -> None:
        command = nursery().start(["upgrade", "--unix-socket", settings.unix_socket], environ)
        await asked.wait()
        command.send_signal(signal.SIGTERM)
        found = await asyncio.to_thread(command.wait, PATIENCE_S)
        ended.set()
        assert (found, command.communicate()[0]) == (code, "")

    asked, ended = asyncio.Event(), asyncio.Event()
    play(settings, scenario, hang)


def test_a_wrong_configuration_of_the_command_says_that_nothing_was_asked(tmp_path: Path) -> None:
    """The server has its own, and goes on."""
    file = tmp_path / "settings.ini"
    file.write_text("[channelstream]\nlog_events = many\n")
    with pytest.raises(
        ConfigError, match=r"^log_events: 'many'.*; no server was asked to upgrade, and one that runs"
    ):
        run(["-i", str(file)], {})


def test_a_relative_path_is_that_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers in different folders have different names; the command may name the same path in full."""
    settings, names = Settings(unix_socket="server.sock"), set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        names.add(name_of(settings))
        assert name_of(Settings(unix_socket=str(tmp_path / folder / "server.sock"))) in names
    assert len(names) == 2


def test_another_user_is_not_answered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who it is."""

    async def scenario(_asked: Control) -> None:
        monkeypatch.setattr(control, "ROOT", -1)
        monkeypatch.setattr(os, "geteuid", lambda: -2)
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(name_of(settings))
            with pytest.raises(CannotHandOver):
                await Line(connected).receive()
        with pytest.raises(ConnectionRefusedError):
            await ask_to_upgrade(settings)

    play(settings, scenario)


def test_the_kernel_names_the_user() -> None:
    """Of the process at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert user_of(ours) == os.getuid()


def test_few_requests_are_answered_at_the_same_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further ones are closed, and those that say nothing are closed in time."""
    monkeypatch.setattr(control, "REQUEST_S", 0.01)

    async def scenario(_asked: Control) -> None:
        lines = []
        for _ in range(MAX_REQUESTS + 1):
            connected = socket.socket(socket.AF_UNIX)
            connected.connect(name_of(settings))
            lines.append(Line(connected))
            await asyncio.sleep(0)
        for line in lines[::-1]:
            with pytest.raises(CannotHandOver):
                await line.receive()
            line.close()

    play(settings, scenario)


def test_a_name_that_is_taken_is_a_warning(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """The server serves, and can be upgraded by the signal."""

    async def scenario(_asked: Control) -> None:
        second = Control(upgraded)
        with caplog.at_level(logging.WARNING):
            second.listen(settings)
        await second.close()

    play(settings, scenario)
    [record] = caplog.records
    assert record.getMessage().startswith("`channelstream upgrade` will not find this process: ")


def test_servers_at_different_addresses_have_different_names() -> None:
    """Whatever the address is, the name fits into that of a socket."""
    many = [Settings(), Settings(port=1), Settings(host="::"), Settings(unix_socket="/" + 100 * "x")]
    names = {name_of(each) for each in many}
    assert len(names) == len(many)
    assert all(len(name) < 108 and name.startswith("\0channelstream-") for name in names)
