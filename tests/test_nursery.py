"""How servers of the tests are started: as forks, which must be no different from processes of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.nursery import Child, Nursery, nursery
from tests.waiting import PATIENCE_S, eventually

from channelstream.early_signals import EARLY

pytestmark = pytest.mark.slow


def show(folder: Path, program: str, **environ: str) -> str:
    """Return what a server's process prints that imports this program as it starts."""
    (folder / "shown.py").write_text(f"{program}\nimport sys; sys.stdout.flush()")
    child = nursery().start(
        ["-s", "secret", "-p", "0", "--signature-checker", "shown.No"],
        os.environ | {"PYTHONPATH": str(folder)} | environ,
    )
    log, _ = child.communicate()
    return log.partition("\nchannelstream: ")[0]


@pytest.fixture
def own() -> Iterator[Nursery]:
    """A nursery that a test may break."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def started() -> Iterator[Callable[[Nursery], Child]]:
    """Start servers that listen; what is left of them is killed."""
    children: list[Child] = []

    def start(nursery: Nursery) -> Child:
        children.append(child := nursery.start(["-s", "secret", "-p", "0"], os.environ))
        while "running on" not in (line := child.line(PATIENCE_S)):
            assert line, "it did not start"
        return child

    yield start
    for child in children:
        child.kill()
        child.stdout.close()


def test_a_server_leaves_an_exit_code_and_a_log() -> None:
    """A server that ends by itself leaves both, as `subprocess` has them."""
    child = nursery().start(["--no-such-option"], os.environ)
    assert child.wait(PATIENCE_S) == child.poll() == child.returncode == 2
    assert "no option '--no-such-option'" in child.communicate()[0]
    assert child.communicate() == ("", None)


def test_a_run_has_its_streams_and_exit_code(tmp_path: Path) -> None:
    """Both streams, the exit code and the folder are those of the program."""
    made = nursery().run(["make-config"], {}, tmp_path)
    assert (made.returncode, (tmp_path / "channelstream.ini").exists()) == (0, True)
    wrong = nursery().run(["--no-such-option"], {})
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no option '--no-such-option'" in wrong.stderr


def test_a_line_of_the_log_is_read_alone() -> None:
    """It is read alone: what follows is still there."""
    child = nursery().start(["--help"], os.environ)
    first, second = (child.line(PATIENCE_S) for _ in range(2))
    rest, _ = child.communicate()
    whole, _ = nursery().start(["--help"], os.environ).communicate()
    assert first + second + rest == whole
    assert (first.count("\n"), child.returncode) == (1, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_a_signal_reaches_the_server(number: signal.Signals, code: int, started: Any) -> None:
    """It arrives, whatever the run itself ignores, and the exit code says so."""
    child = started(nursery())
    assert child.poll() is None
    child.send_signal(number)
    assert child.wait(PATIENCE_S) == code
    child.send_signal(number)  # It reaches nobody else.


def test_another_module_is_a_program_with_a_stdin() -> None:
    """It is in a session of its own, where it is to be, and reads what is written."""
    theirs, ours = os.pipe()
    worker = nursery().start(
        [], os.environ, module="channelstream.bench.worker", stdin=theirs, has_session=True
    )
    os.close(theirs)
    eventually(lambda: os.getsid(worker.pid) == worker.pid, "it has no session of its own")
    os.write(ours, b"nonsense\n")
    assert "DecodeError" in worker.communicate()[0]
    assert worker.returncode == 1
    os.close(ours)


def test_a_wait_for_a_server_ends_in_time(started: Any) -> None:
    """Where the server does not."""
    child = started(nursery())
    child.suspend()  # It could log something meanwhile.
    while child.line(0.01):
        pass
    assert child.line(0.01) == ""
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        child.communicate(0.01)


def test_a_suspended_server_does_not_run(started: Any) -> None:
    """It does not run, and runs again."""
    child = started(nursery())
    child.suspend()
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    assert stat.rpartition(")")[2].split()[0] == "T"
    child.send_signal(signal.SIGCONT)
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 0


def test_a_server_has_the_given_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one given and no other; the folder, the time zone and the path of modules go by it."""
    monkeypatch.setenv("CHANNELSTREAM_OF_THE_RUN", "no")
    monkeypatch.chdir(tmp_path)
    values = "os.environ.get('ZOO'), len(os.environ), os.getcwd(), sys.path[:2], time.tzname[0]"
    (tmp_path / "shown.py").write_text(f"import os, sys, time; print({values}, flush=True)")
    environ = {"ZOO": "bear", "TZ": "XYZ-3", "PYTHONPATH": "/nowhere"}
    child = nursery().start(["-s", "secret", "--signature-checker", "shown.No"], environ)
    shown = child.communicate()[0].splitlines()[0]
    assert shown == f"bear 3 {tmp_path} {[str(tmp_path), '/nowhere']} XYZ"


def test_random_numbers_differ(tmp_path: Path) -> None:
    """Two servers draw neither the same numbers, nor the same ids and secrets."""
    values = "random.random(), uuid.uuid4(), secrets.token_hex(), ssl.RAND_bytes(9)"
    program = f"import random, secrets, ssl, uuid\nfor each in {values}: print(each)"
    one, other = (show(tmp_path, program).splitlines() for _ in range(2))
    assert len(one) == 4
    assert not set(one) & set(other)


def test_a_server_inherits_no_descriptors_or_signal_handlers(tmp_path: Path, started: Any) -> None:
    """A server has no descriptors of its siblings or of the nursery, and signals have their default actions.

    It blocks some of them itself while it starts, and no others.
    """
    started(nursery())
    program = (
        "import os, signal, threading\n"
        "print(*(f'{n}:{os.readlink(p)}'.partition('[')[0] for n in os.listdir('/proc/self/fd')"
        " if os.path.exists(p := f'/proc/self/fd/{n}')))\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGCHLD) == 0,"
        " signal.set_wakeup_fd(-1), threading.active_count(), sorted(signal.pthread_sigmask(0, [])))"
    )
    descriptors, signals = show(tmp_path, program).splitlines()
    own = [
        each for each in descriptors.split() if "/libffi.so" not in each
    ]  # libffi 3.8 keeps its file open.
    assert sorted(own) == ["0:/dev/null", "1:pipe:", "2:pipe:"]
    assert signals == f"True True -1 1 {sorted(EARLY)}"


def test_a_server_waits_for_threads_and_calls_exit_handlers(tmp_path: Path) -> None:
    """As an interpreter does at its end, and what they print is not lost."""
    program = (
        "import atexit, threading\n"
        "atexit.register(print, 'handled')\n"
        "threading.Thread(target=lambda: threading.main_thread().join() or print('joined')).start()"
    )
    (tmp_path / "shown.py").write_text(program)
    log, _ = nursery().start(["-s", "secret", "--signature-checker", "shown.No"], {}, tmp_path).communicate()
    assert log.splitlines()[-2:] == ["joined", "handled"]


def test_ended_servers_are_reaped() -> None:
    """Ended servers are reaped while others start, in any order and many at once."""
    children = [nursery().start(["--no-such-option"], os.environ) for _ in range(5)]
    for child in reversed(children):
        child.communicate()
        assert child.returncode == 2
        assert not Path(f"/proc/{child.pid}").exists()


def test_a_killed_nursery_takes_its_servers_along(own: Nursery, started: Any) -> None:
    """It takes its servers along; another start fails at once, and says why."""
    child = started(own)
    os.kill(own.pid, signal.SIGKILL)
    assert child.wait(PATIENCE_S) == -signal.SIGKILL
    eventually(lambda: not is_running(child.pid), "the server has outlived the nursery")
    with pytest.raises(RuntimeError, match="the nursery"):
        own.start([], os.environ)


def test_a_hanging_nursery_is_not_waited_for(own: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without end, neither for a server nor for its own end."""
    monkeypatch.setattr("tests.nursery.PATIENCE_S", 0.01)
    own._control.settimeout(0.01)
    os.kill(own.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    with pytest.raises(RuntimeError, match="starts no server"):
        own.start([], os.environ)
    own.close()
    assert time.monotonic() - began_s < PATIENCE_S
    assert not is_running(own.pid)


def test_closing_a_nursery_ends_its_servers(own: Nursery, started: Any) -> None:
    """The end of the process that has asked for them is the end of nursery and servers."""
    child = started(own)
    own.close()
    assert child.wait(PATIENCE_S) == -signal.SIGKILL
    assert not is_running(own.pid)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie, which an ended server is where nobody reaps orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
