"""The pytest plugin, used by test files of its own in another pytest."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import eventually

from channelstream_client.testing import NotInstalled, server
from channelstream_client.testing.port import HeldPort

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

IMPORTS = """
import pytest
from channelstream_client import Message, MessageEvent, Presence, Resumed
from channelstream_client.testing import NotHeard


def say(server, text):
    server.client.publish(Message(user="ann", channel="news", message=text))
"""
HELPERS = """
def test_waits_for_the_event_that_is_meant(channelstream_server):
    bob = channelstream_server.listen("bob", ["news"])
    say(channelstream_server, "one")
    say(channelstream_server, "two")
    assert bob.wait_for(MessageEvent, message="two").user == "ann"
    assert bob.wait_for(MessageEvent, where=lambda event: event.message == "one").channel == "news"


def test_catch_up_proves_that_an_event_was_missed(channelstream_server):
    bob = channelstream_server.listen("bob", ["sport"])
    say(channelstream_server, "one")
    assert [event for event in bob.catch_up() if isinstance(event, MessageEvent)] == []


def test_failure_lists_what_did_arrive(channelstream_server):
    bob = channelstream_server.listen("bob", ["news"])
    say(channelstream_server, "hello")
    bob.catch_up()
    with pytest.raises(NotHeard) as caught:
        bob.wait_for(Presence, user="carl", timeout_s=0.01)
    assert "bob did not receive Presence, user='carl': not within 0.01 s" in str(caught.value)
    assert "message='hello'" in str(caught.value)


def test_dropped_client_recovers(channelstream_server):
    bob = channelstream_server.listen("bob", ["news"])
    bob.drop()
    say(channelstream_server, "missed")
    assert "news" in bob.restore().recovered
    bob.wait_for(MessageEvent, message="missed")


def test_stalled_client_receives_later(channelstream_server):
    bob = channelstream_server.listen("bob", ["news"])
    bob.stall()
    for number in range(20):
        say(channelstream_server, "x" * 100_000)
    say(channelstream_server, "last")
    bob.flow()
    bob.wait_for(MessageEvent, message="last")
    assert len([event for event in bob.catch_up() if isinstance(event, MessageEvent)]) == 21


def messages(listener):
    return [event.message for event in listener.catch_up() if isinstance(event, MessageEvent)]


def test_followed_connection_receives_what_its_page_would(channelstream_server):
    say(channelstream_server, "before")
    bob = channelstream_server.client.connect("bob", ["news"])
    say(channelstream_server, "greeting")
    page = channelstream_server.follow(bob.conn_id, "bob")
    assert messages(page) == ["greeting"]
    page.close()
    say(channelstream_server, "meanwhile")
    assert messages(channelstream_server.follow(bob.conn_id, "bob")) == ["meanwhile"]
    older = channelstream_server.follow(bob.conn_id, "bob", since=bob.position)
    assert messages(older) == ["greeting", "meanwhile"]


def test_listener_reads_from_an_earlier_position(channelstream_server):
    position = channelstream_server.client.info().position
    say(channelstream_server, "earlier")
    assert messages(channelstream_server.listen("bob", ["news"], since=position)) == ["earlier"]
    assert messages(channelstream_server.listen("bob", ["news"])) == []


def test_text_is_no_list_of_channels(channelstream_server):
    with pytest.raises(TypeError, match="channels"):
        channelstream_server.listen("bob", "news")


def test_ended_connection_is_reported(channelstream_server):
    bob = channelstream_server.listen("bob", ["news"])
    channelstream_server.client.disconnect(bob.conn_id)
    with pytest.raises(NotHeard, match="ended it with 1000"):
        bob.wait_for(MessageEvent)


def test_restarted_server_is_a_new_one_at_the_same_address(channelstream_server):
    url = channelstream_server.url
    channelstream_server.client.connect("bob", ["news"])
    channelstream_server.restart()
    assert channelstream_server.url == url
    assert channelstream_server.client.info().channels == {}
    carl = channelstream_server.client.connect("carl", ["news"])
    say(channelstream_server, "greeting")
    page = channelstream_server.follow(carl.conn_id, "carl")
    assert page.events[0].lost == []
    page.wait_for(MessageEvent, message="greeting")


def test_client_may_be_dropped_at_the_end(channelstream_server):
    channelstream_server.listen("bob", ["news"]).drop()
"""


Inner = Callable[[str, str], pytest.RunResult]
OTHERS = ("schemathesis", "hypothesispytest", "pytest_cov", "xdist", "xdist.looponfail", "timeout", "anyio")
"""Plugins that are installed beside it, and have nothing to do here: they take half the time of a run."""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> Inner:
    """Run tests with the plugin, in a pytest of their own."""

    def run(tests: str, flags: str) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\nfilterwarnings = error\nchannelstream_flags = {flags}\n")
        pytester.makepyfile(tests)
        without = [f"-pno:{name}" for name in ("cacheprovider", *OTHERS)]
        return pytester.runpytest_subprocess("-q", *without)

    return run


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Settings and proxies of a developer's shell; return the production database they name."""
    database = tmp_path / "production.sqlite"
    monkeypatch.setenv("CHANNELSTREAM_ENGINE", f"sqlite:///{database}")
    monkeypatch.setenv("CHANNELSTREAM_LOG_LEVEL", "critical")
    monkeypatch.setenv("CHANNELSTREAM_INI", str(tmp_path / "none.ini"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return database


def test_helpers_do_what_the_documentation_says(inner: Inner, shell: Path) -> None:
    """Waiting, catching up, dropping, stalling and restarting work, whatever the shell has set; a failure is readable.

    The server may log nothing.
    """
    inner(IMPORTS + HELPERS, "--demo false --log-level critical").assert_outcomes(passed=11)
    assert not shell.exists()


def test_server_that_does_not_start_shows_its_log(inner: Inner) -> None:
    """A wrong flag fails the tests with the server's message."""
    result = inner("def test(channelstream_server): pass", "--no-such-flag")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*did not start*", "*no-such-flag*"])


def test_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start has a bound, and the failure has the log."""
    # A shell has said so long before the time is over, also on a slow machine.
    monkeypatch.setattr(
        server, "command", lambda: ["/bin/sh", "-c", "echo I am up, but mute; exec sleep 600"]
    )
    with pytest.raises(RuntimeError, match=r"(?s)no answer within 5 s.*up, but mute"):
        server.TestServer(start_timeout_s=5)


def test_flags_are_a_list() -> None:
    """A text in place of a list of flags is refused."""
    with pytest.raises(TypeError, match="flags"):
        server.TestServer("--demo false")


def test_server_dies_with_the_run(tmp_path: Path) -> None:
    """A run that is killed leaves no server behind, and no port taken."""
    program = (
        "from channelstream_client.testing import TestServer\n"
        "import os, signal\n"
        "server = TestServer()\n"
        "print(server.port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    port = int(run.stdout)
    eventually(lambda: can_take(port), "the server outlives the run")


def can_take(port: int) -> bool:
    """Return whether a program that asks for a port gets it."""
    with socket.socket() as program:
        try:
            program.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class NotedPort(server.TestServer):
    """Notes whether another program could take the port before the server is started, and when it has ended."""

    def __init__(self) -> None:
        self.could_be_taken: list[bool] = []
        super().__init__()

    def _start(self, port: int) -> "subprocess.Popen[str]":
        self.could_be_taken.append(can_take(port))
        return super()._start(port)

    def _stop(self, process: "subprocess.Popen[str]") -> None:
        super()._stop(process)
        self.could_be_taken.append(can_take(self.port))


@pytest.mark.skipif(
    sys.platform != "linux", reason="Only Linux lets two sockets have a port, so that one holds it."
)
def test_port_is_held_whenever_no_server_listens() -> None:
    """Another program gets it neither before the start nor at a restart: its answers would pass for the server's."""
    started = NotedPort()
    started.close()
    assert started.could_be_taken == [False, False]
    eventually(lambda: can_take(started.port), "the port is still held")


def test_port_is_free_again_where_the_server_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails leaves nothing behind, and is not repeated on a port that was not the reason."""
    made: list[HeldPort] = []

    def make() -> HeldPort:
        made.append(HeldPort())
        return made[-1]

    monkeypatch.setattr(server, "command", lambda: ["/bin/false"])
    monkeypatch.setattr(server, "HeldPort", make)
    with pytest.raises(RuntimeError, match="it ended"):
        server.TestServer()
    [port] = made
    assert can_take(port.number)


def test_port_that_another_program_took_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another port is tried where the proposed one was taken meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        proposals = [HeldPort(), HeldPort()]
        proposals[0].release()
        proposals[0].number = taken.getsockname()[1]
        monkeypatch.setattr(server, "HeldPort", lambda: proposals.pop(0))
        started = server.TestServer(start_timeout_s=20)
        assert started.port != taken.getsockname()[1]
        started.close()


def test_missing_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server is installed, the reason to skip says how to get one."""
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(server.shutil, "which", lambda name, path=None: None)
    with pytest.raises(
        NotInstalled, match=r"not installed; install one with `pip install \.` in a clone of the server"
    ):
        server.command()


def test_server_that_is_too_old_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.7 is a package that `python -m` cannot run, and is not imported. A mere folder of its name is no server."""
    monkeypatch.delitem(sys.modules, "channelstream", raising=False)
    monkeypatch.setattr(server.shutil, "which", lambda name, path=None: None)
    for case, said in (
        ("folder", "is not installed"),
        ("package", "is an older one, such as 0.7; install one with"),
    ):
        package = tmp_path / case / "channelstream"
        package.mkdir(parents=True)
        if case == "package":
            (package / "__init__.py").write_text("raise AssertionError('imported')")
        monkeypatch.setattr(sys, "path", [str(package.parent)])
        with pytest.raises(NotInstalled, match=said):
            server.command()


def test_server_beside_this_python_is_found() -> None:
    """The server of this environment is preferred to any other."""
    assert server.command() == [sys.executable, "-m", "channelstream"]
