"""The program as a shell sees it: exit codes, and one line on stderr."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from tests.nursery import nursery
from tests.processes import children
from tests.waiting import PATIENCE_S, eventually

import channelstream
from channelstream import cli
from channelstream.cli import COMMANDS, main, serve
from channelstream_client.testing.port import HeldPort

Finished = subprocess.CompletedProcess[str]


def run(*argv: str, cwd: Path | None = None, **environ: str) -> Finished:
    """Run the program in a process of its own with only this environment."""
    return nursery().run(argv, environ, cwd)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argument", "code"), [("channelstream", "-v", 0), ("channelstream.cli", "--nonsense", 2)]
)
def test_a_module_is_the_program(module: str, argument: str, code: int) -> None:
    """A new interpreter prints and ends as the forked program of the other tests."""
    ended = subprocess.run(
        [sys.executable, "-m", module, argument],
        env={}, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    forked = run(argument)
    assert (ended.returncode, forked.returncode) == (code, code)
    assert (ended.stdout, ended.stderr) == (forked.stdout, forked.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-p", "abc"], "port: 'abc'"),
        (["nowhere.ini"], "'nowhere.ini' cannot be read"),
        (["-", "nowhere.ini"], "'nowhere.ini' cannot be read"),
        (["--nonsense"], "there is no option '--nonsense'"),
        (["-o", "0.0.0.0"], "secret: its default"),
        (["publish", "hello"], "a message needs -c CHANNEL or --to USER"),
        (["listen", "--transport", "pigeon"], "argument --transport: invalid choice"),
        (["sign", "message"], "PATH: 'message'"),
        (["sign", "/info", "--dta", "x"], "there is no option '--dta' (did you mean --data?)"),
        (["upgrade", "--engine", "memory"], "there is no option '--engine' (see"),
        (
            ["publsh", "-c", "news", "hi"],
            "there is no command and no file 'publsh' (did you mean publish?)",
        ),
        (["teleport"], "there is no command and no file 'teleport'"),
    ],
)
def test_wrong_arguments_and_settings_end_with_one_line(argv: list[str], said: str) -> None:
    """Wrong arguments and settings end with exit code 2 and one line on stderr."""
    ended = run(*argv)
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"channelstream: {said}")


def test_a_wrong_value_in_the_environment_does_as_well() -> None:
    """A wrong value in the environment ends with exit code 2 as well."""
    ended = run(CHANNELSTREAM_PORT="-1")
    assert ended.returncode == 2
    assert ended.stderr.startswith("channelstream: port: '-1' (from CHANNELSTREAM_PORT)")


def test_the_version_is_printed() -> None:
    """-v prints the version."""
    ended = run("-v")
    assert (ended.returncode, ended.stdout) == (0, f"{channelstream.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """COMMAND -h explains it, and it is among those that the program's own help names."""
    ended = run(command, "-h")
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage:")
    assert f"\n  {command} " in serve.COMMANDS


def test_the_help_names_the_commands() -> None:
    """The program's own help names the commands."""
    assert serve.COMMANDS in run("-h").stdout


def test_commands_that_call_a_server_say_what_its_settings_mean_to_them() -> None:
    """A server listens at a port; a client reaches it there."""
    shown = run("publish", "-h").stdout
    assert "The TCP port of the server. [8000]" in shown
    assert "listen on" not in shown


@pytest.mark.slow
def test_a_server_imports_nothing_of_other_commands() -> None:
    """Modules of clients, demo visitors and `bench` are imported when needed, not at every start."""
    foreign = {
        "channelstream_client",
        "httpx",
        "websockets",
        "uvicorn",
        "opentelemetry",
        "channelstream.bench",
        "channelstream.cli.listen",
    }
    assert not imported(foreign, by="channelstream.cli.serve, channelstream.server")


@pytest.mark.slow
def test_a_request_to_upgrade_imports_nothing_that_serves_or_calls() -> None:
    """The command runs beside a server that needs the processor at this moment."""
    foreign = {
        "httpx",
        "channelstream.cli.remote",
        "channelstream.transports",
        "channelstream.upgrade.giving",
    }
    assert not imported(foreign, by="channelstream.cli.upgrade")


def imported(names: set[str], by: str) -> set[str]:
    """Return which of these modules a new interpreter imports with others."""
    script = f"import sys, {by}; print(*{names} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_server_whose_standard_files_are_closed_stops_as_any(closed: str) -> None:
    """None of its sockets has their numbers, at which libuv would abort the process."""
    with HeldPort() as port:
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "channelstream"]
        with subprocess.Popen([*shell, "-p", str(port.number)], env={}) as server:
            try:
                eventually(lambda: port.is_in_use() or server.poll() is not None, "it does not listen")
                server.terminate()
                assert server.wait(PATIENCE_S) == 0
            finally:
                server.kill()


def test_ctrl_c_while_a_command_is_imported_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silently, as while it runs: on a busy machine that takes seconds."""
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt")
    monkeypatch.setattr(cli, "__path__", [str(tmp_path)])
    monkeypatch.setitem(cli.COMMANDS, "doctor", "interrupted")
    assert main(["doctor"], {}) == 130


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="a namespace needs root")
@pytest.mark.parametrize("before", [[], ["unshare", "--pid", "--fork", "--kill-child"]], ids=["", "first"])
def test_sigterm_ends_a_command(before: list[str]) -> None:
    """At once, also the first process of a container, which would ignore it by default."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        argv = [*before, sys.executable, "-m", "channelstream", "publish", "--url", url, "-c", "a", "1"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
            try:
                silent.settimeout(PATIENCE_S)
                with silent.accept()[0]:
                    command = children(process.pid).pop() if before else process.pid
                    os.kill(command, signal.SIGTERM)
                    assert process.wait(PATIENCE_S) == (143 if before else -signal.SIGTERM)
            finally:
                process.kill()


PRINTING = [
    ["-h"],
    ["keys", "-h"],
    ["--version"],
    ["make-config", "-o", "-"],
    ["sign", "/info", "-s", "a secret"],
]


@pytest.mark.slow
@pytest.mark.parametrize("argv", PRINTING, ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_ends_a_command_with_one_line(argv: list[str], unbuffered: str) -> None:
    """Also the flush at the end, and a help, of which argparse ignores that it cannot be written."""
    with Path("/dev/full").open("w") as full:
        ended = started(argv, full, unbuffered)
        assert ended.communicate(timeout=PATIENCE_S) == (
            None,
            "channelstream: cannot write to stdout: No space left on device\n",
        )
    assert ended.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("argv", PRINTING, ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads_is_no_failure(argv: list[str], unbuffered: str) -> None:
    """As in `channelstream keys list | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        ended = started(argv, pipe, unbuffered)
        assert ended.communicate(timeout=PATIENCE_S) == (None, "")
    assert ended.returncode == 0


@pytest.mark.slow
def test_the_exit_code_of_a_command_outlives_its_reader() -> None:
    """`doctor | head -1` still says that something is wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        ended = started(["doctor", "--config-only", "-p", "x"], pipe, "")
        assert ended.communicate(timeout=PATIENCE_S) == (None, "")
    assert ended.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [["frobnicate"], ["keys", "new"], ["sign", "/info", "-s", "x", "-p", "y"]])
def test_the_exit_code_of_a_command_outlives_stderr(argv: list[str], unbuffered: str) -> None:
    """On a disk that is full, and where nobody reads it: 2, for a wrong command line."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, Path("/dev/full").open("w") as full:
        for stderr in (pipe, full):
            command, environ = (
                [sys.executable, "-m", "channelstream", *argv],
                {"PYTHONUNBUFFERED": unbuffered},
            )
            assert subprocess.run(command, stderr=stderr, env=environ, check=False).returncode == 2


@pytest.mark.slow
def test_a_command_does_its_work_without_stderr(tmp_path: Path) -> None:
    """What cannot be said is dropped."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "channelstream", "keys", "new", "web-1", "--keys-file", "keys.json"]
        ended = subprocess.run(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert ended.returncode == 0
    assert ended.stdout.startswith("id: web-1\nsecret: ")


def started(argv: list[str], stdout: IO[str], unbuffered: str) -> "subprocess.Popen[str]":
    command, environ = [sys.executable, "-m", "channelstream", *argv], {"PYTHONUNBUFFERED": unbuffered}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environ)


def test_characters_that_stdout_lacks_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in another script ends no command where the locale is not UTF-8."""
    monkeypatch.chdir(tmp_path)
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1", write_through=True))
    assert main(["make-config", "-o", "日本é.ini"], {}) == 0
    assert shown.getvalue().startswith(rb"\u65e5\u672c" + b"\xe9.ini written")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["publish", "-c", "news", "\udcff"], r"'\udcff'"),
        (["publish", "-c", "news", '{"text": "\\ud800"}'], r"'\ud800'"),
        (["listen", "-c", "\udcff"], r"'\udcff'"),
        (["trace", "--user", "\udcff"], r"'\udcff'"),
    ],
)
def test_text_that_is_not_utf_8_ends_with_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An argument of a terminal with another encoding, and half of a character in JSON."""
    assert main([*argv, "--unix-socket", "/nonexistent.sock"], {}) == 2
    assert capsys.readouterr() == ("", f"channelstream: {said} is no character of UTF-8\n")


def test_a_key_id_that_no_header_takes_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the encoding that lacks the character."""
    argv = ["publish", "-c", "news", "--key", "é", "--unix-socket", "/nonexistent.sock", "hi"]
    assert main(argv, {"CHANNELSTREAM_KEY_SECRET": "x" * 32}) == 2
    assert capsys.readouterr() == ("", "channelstream: 'é' is no character of ASCII\n")


def test_a_file_named_like_a_word_is_read(tmp_path: Path) -> None:
    """A file is read whatever its name is."""
    (tmp_path / "push").write_text("[channelstream]\nport = x\n")
    assert "port: 'x' (from 'push')" in run("push", cwd=tmp_path).stderr


@pytest.mark.slow
def test_a_command_that_reaches_no_server_ends_with_one_line() -> None:
    """A client command that reaches no server ends with exit code 1 and one line."""
    ended = run("publish", "-c", "news", "hello", "--unix-socket", "/nonexistent.sock")
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("channelstream: nothing listens at unix:/nonexistent.sock: start the server")


def test_made_file_is_checked_and_accepted(tmp_path: Path) -> None:
    """make-config, then check-config with a public host: OK."""
    assert run("make-config", cwd=tmp_path).returncode == 0
    ended = run("check-config", "-i", "channelstream.ini", "-o", "0.0.0.0", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "OK\n", "")
