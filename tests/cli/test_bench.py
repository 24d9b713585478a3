"""`channelstream bench` against real servers: small loads, the report, exit codes and sentences."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.test_diagnosis import answering, http
from tests.forked_programs import forked_programs

from channelstream.bench import servers
from channelstream.bench.results import Report
from channelstream.bench.scenarios import QUICK, SCENARIOS
from channelstream.cli import main

pytestmark = pytest.mark.slow

SMALL = ["--clients", "20", "--messages", "30", "--publishers", "3", "--payload-bytes", "50"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def bench_starts_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """In one test the bench starts them as users have it: with interpreters of their own."""
    with nullcontext() if request.function is test_without_a_url_servers_are_started else forked_programs():
        yield


def bench(server: Any, *argv: str) -> int:
    return main(["bench", server.url, "-s", server.secret, *argv], {})


def document(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


@pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
def test_all_messages_arrive_by_every_transport(server: Any, tmp_path: Path, transport: str) -> None:
    """All messages reach all clients in order: exit code 0, and the report says so."""
    path = tmp_path / "report.json"
    assert bench(server, *SMALL, "--transport", transport, "--channels", "3", "--json", str(path)) == 0
    delivery = document(path).steps[0].measured.delivery
    assert delivery is not None
    assert (delivery.expected, delivery.rate.count, delivery.is_right) == (600, 600, True)
    assert delivery.latency_ms.samples == 600
    assert 0 < delivery.latency_ms.p50 <= delivery.latency_ms.max


def test_as_many_messages_are_sent_as_were_asked_for(server: Any, tmp_path: Path) -> None:
    """Messages in lists, on a schedule, to clients in two processes: as many as were asked for."""
    path = tmp_path / "report.json"
    assert bench(server, *SMALL, "--workers", "2", "--rate", "300", "--items", "4", "--json", str(path)) == 0
    measured = document(path).steps[0].measured
    assert measured.delivery is not None
    assert (measured.requests, measured.delivery.rate.count) == (8, 600)


def test_with_a_duration_publishing_ends_by_time(server: Any, tmp_path: Path) -> None:
    """With a duration publishing ends by time, and all published messages have arrived."""
    path = tmp_path / "report.json"
    assert bench(server, "--clients", "5", "--duration", "0.3", "--rate", "50", "--json", str(path)) == 0
    delivery = document(path).steps[0].measured.delivery
    assert delivery is not None
    assert delivery.rate.count == delivery.expected > 0


def test_own_process_is_measured(server: Any, tmp_path: Path, capsys: Captured) -> None:
    """With --pid the report has processor time, and a reference beside it."""
    path = tmp_path / "report.json"
    pid = str(server.process.pid)
    assert bench(server, *SMALL, "--clients", "120", "--pid", pid, "--json", str(path)) == 0
    step = document(path).steps[0]
    assert step.reference is not None
    assert step.measured.memory is not None
    assert step.measured.delivery is not None
    assert step.measured.delivery.rate.cpu_us_each is not None
    out, err = capsys.readouterr()
    assert "reference" in out
    assert "does not listen" not in err


def test_a_process_that_is_not_the_server_is_doubted(server: Any, capsys: Captured) -> None:
    """Its figures would be taken for the server's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert bench(server, *SMALL, "--pid", str(other.pid), "--no-reference") == 0
        other.communicate(b"\n")
    port = server.url.rpartition(":")[2]
    assert f"--pid: process {other.pid} does not listen at port {port}: is it" in capsys.readouterr().err


def test_without_a_pid_cpu_and_memory_are_left_out(server: Any, capsys: Captured) -> None:
    """Without it processor time and memory are left out, and the report says so."""
    assert bench(server, *SMALL) == 0
    out, err = capsys.readouterr()
    assert "CPU and memory are not measured" in err
    assert "CPU per delivery" not in out


def test_without_messages_clients_only_connect(server: Any, tmp_path: Path, capsys: Captured) -> None:
    """Without messages clients only connect; --idle asks the server how quickly it answers meanwhile."""
    path = tmp_path / "report.json"
    assert bench(server, "--clients", "10", "--messages", "0", "--idle", "0.2", "--json", str(path)) == 0
    measured = document(path).steps[0].measured
    assert measured.delivery is None
    assert measured.stall_ms is not None
    assert measured.attach is not None
    assert measured.attach.count == 10
    assert measured.longest_turn_ms is None  # That of its start and of others' load is not the run's.
    assert "request p99.9" in capsys.readouterr().out


def test_without_a_url_servers_are_started(tmp_path: Path, capsys: Captured) -> None:
    """Without URL servers are started: the product with the options of the step, and the reference."""
    assert main(["bench", "--scenario", "compression", *SMALL, "--output", str(tmp_path / "new")], {}) == 0
    report = document(tmp_path / "new" / "compression.json")
    plain, packed = (step.measured.delivery for step in report.steps)
    assert plain is not None
    assert packed is not None
    assert packed.rate.count == plain.rate.count == 600
    assert all(step.measured.longest_turn_ms is not None for step in report.steps)
    out = capsys.readouterr().out
    assert out.count("longest turn of the loop") == 2
    assert "compressed, compared with plain" in out
    assert (tmp_path / "new" / "compression.svg").read_text().startswith("<svg ")


def test_clients_of_pusher_receive_what_native_ones_do(tmp_path: Path) -> None:
    """They receive what native clients do, and nobody registers them."""
    path = tmp_path / "report.json"
    assert main(["bench", "--scenario", "pusher", *SMALL, "--channels", "2", "--json", str(path)], {}) == 0
    native, pusher = (step.measured for step in document(path).steps)
    for measured in (native, pusher):
        assert measured.delivery is not None
        assert (measured.delivery.rate.count, measured.delivery.is_right) == (600, True)
    assert (native.connect is None, pusher.connect is None) == (False, True)


def test_publishing_is_compared_with_its_reference(tmp_path: Path) -> None:
    """The scenario without clients compares accepted messages with those of a bare application, in rounds."""
    path = tmp_path / "report.json"
    assert main(["bench", "--scenario", "publish", "--messages", "200", "--json", str(path)], {}) == 0
    for step in document(path).steps:
        assert step.measured.publish is not None
        assert step.measured.publish.count == 200
        assert step.rounds == 3
        assert "publish_per_s" in step.ratios


def test_document_is_plain_json(server: Any, tmp_path: Path) -> None:
    """The document holds parameters, machine and results under names that say their unit."""
    path = tmp_path / "report.json"
    assert bench(server, *SMALL, "--json", str(path), "--svg", str(tmp_path / "chart.svg")) == 0
    loaded = json.loads(path.read_text())
    assert loaded["format"] == 1
    assert set(loaded["machine"]) == {"cpu", "cores", "memory_mb", "kernel", "python"}
    assert loaded["steps"][0]["load"]["payload_bytes"] == 50
    assert server.secret not in path.read_text()
    assert (tmp_path / "chart.svg").exists()


def test_scenarios_are_listed(capsys: Captured) -> None:
    """--list names all scenarios, and the set that `make bench` runs."""
    assert main(["bench", "--list"], {}) == 0
    out = capsys.readouterr().out
    assert [name for name in SCENARIOS if name not in out] == []
    assert set(QUICK) <= set(SCENARIOS)


def test_each_default_that_the_help_names_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not run: the URL is refused after the load is read."""
    with pytest.raises(SystemExit):
        main(["bench", "--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    defaults = dict(re.findall(r"(--[a-z-]+) (?:N|S|BYTES) [^\[]*\[(\d+)\]", text))
    assert {"--clients", "--duration", "--rate", "--idle"} <= defaults.keys()
    argv = [word for pair in defaults.items() for word in pair]
    assert main(["bench", "nonsense", *argv], {}) == 2
    assert "URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--scenario", "nonsense"], "--scenario: there is no 'nonsense'"),
        (["--scenario", "single,sse", "--json", "x"], "--output DIR is for several"),
        (["--clients", "many"], "--clients: 'many' is not a number"),
        (["--clients", "-1"], "--clients: -1 is not between"),
        (["--rate", "nan"], "--rate: nan is not between"),
        (["--duration", "0.01"], "--duration: 0.01 is neither 0 nor at least 0.1"),
        (["--deflate", "--transport", "sse"], "--deflate is for --transport ws"),
        (["--scenario", "sse", "--deflate"], "--deflate is for --transport ws"),
        (["--scenario", "compression", "--transport", "poll"], "only WebSockets are compressed"),
        (["--scenario", "pusher", "--transport", "sse"], "clients of Pusher have WebSockets only"),
        (["http://x", "--key", "a", "--signing", "old"], "--signing old: an old signature names no key"),
        (["--key", "a"], "--key is that of the server at URL"),
        (["--app", "shop"], "--app is an application of the server at URL"),
        (["--pid", "1"], "--pid is the process of the server at URL"),
        (["ftp://x"], "URL: 'ftp://x' is not an http:// or https:// address"),
    ],
)
def test_impossible_arguments_are_refused_at_once(argv: list[str], said: str, capsys: Captured) -> None:
    """Impossible arguments are refused before anything starts: exit code 2 and one line."""
    assert main(["bench", *argv], {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def failure(capsys: Captured) -> str:
    """The last line on stderr."""
    return capsys.readouterr().err.splitlines()[-1]


def test_a_server_out_of_reach_is_reported_in_one_line(capsys: Captured) -> None:
    """A server that cannot be reached is reported in one line."""
    assert main(["bench", "http://127.0.0.1:1", "--clients", "2"], {}) == 1
    assert failure(capsys).startswith("channelstream: http://127.0.0.1:1 cannot be reached: ")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK", "<html>"), "is not a channelstream server: its answer to /connect has another form"),
        (http("200 OK", "{}"), "is not a channelstream server: its answer to /connect has another form"),
        (http("200 OK", '{"conn_id": 5}'), "its answer to /connect has another form"),
        (http("200 OK", "[" * 100_000), "its answer to /connect has another form"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "the server's answer is not HTTP"),
        (b"220 mail.example ESMTP\r\n\r\n", "the server's answer is not HTTP"),
    ],
    ids=["html", "object", "id", "nesting", "length", "SMTP"],
)
def test_another_program_is_named(capsys: Captured, answer: bytes, said: str) -> None:
    """Without a traceback of a worker, and without a wait for ever."""
    with answering(answer) as port:
        assert main(["bench", f"http://127.0.0.1:{port}", "--clients", "1", "--messages", "1"], {}) == 1
    assert failure(capsys).endswith(said)


def test_calls_may_be_signed_as_a_whole(start_server: Any, tmp_path: Path, capsys: Captured) -> None:
    """With the secret or a key, where the server takes no other signatures; the report says so."""
    file = tmp_path / "keys.json"
    file.touch(0o600)
    file.write_text(json.dumps({"keys": [{"id": "bench-1", "secret": "b" * 32, "app": "shop"}]}))
    server = start_server(
        "--request-signing", "signed", "--keys-file", str(file), CHANNELSTREAM_APP_SHOP_SECRET="of the shop"
    )
    small = ["--clients", "3", "--messages", "3", "--publishers", "1"]
    for flags in (
        ["--signing", "signed", "-s", server.secret],
        ["--key", "bench-1", "--keys-file", str(file)],
    ):
        assert main(["bench", server.url, *small, *flags], {}) == 0
        assert "each call signed as a whole" in capsys.readouterr().out
    assert main(["bench", server.url, *small, "-s", server.secret], {}) == 1
    assert "CS-HMAC-SHA256" in capsys.readouterr().err


def test_a_wrong_secret_is_reported_in_the_words_of_the_server(server: Any, capsys: Captured) -> None:
    """A wrong secret is reported in the server's words."""
    assert main(["bench", server.url, "-s", "wrong", *SMALL], {}) == 1
    assert '/connect answered 401: {"request":"Bad Signature",' in failure(capsys)
    assert main(["bench", server.url, "-s", "wrong", "--clients", "0", "--messages", "1"], {}) == 1
    assert "/message answered 401" in failure(capsys)


def test_an_unknown_process_is_reported(server: Any, capsys: Captured) -> None:
    """A process that does not exist is reported."""
    assert bench(server, *SMALL, "--pid", str((1 << 22) - 1)) == 1
    assert failure(capsys) == f"channelstream: --pid: there is no process {(1 << 22) - 1} on this machine"


def test_too_few_descriptors_are_reported_before_the_run(server: Any, capsys: Captured) -> None:
    """More clients than open files are allowed is reported before any connects, with the remedy."""
    assert bench(server, "--clients", "1000000") == 1
    assert "ulimit -Hn" in failure(capsys)


def test_server_that_does_not_compress(server: Any, capsys: Captured) -> None:
    """Clients that require compression fail without it."""
    assert bench(server, *SMALL, "--deflate") == 1
    assert "its option compression is off" in failure(capsys)


@pytest.mark.parametrize("flag", ["--json", "--svg", "--output"])
def test_a_file_that_cannot_be_written_is_reported_before_the_run(
    tmp_path: Path, capsys: Captured, flag: str
) -> None:
    """Where nothing listens, so that a run would fail; several scenarios can take an hour."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "report") if flag != "--output" else (tmp_path / "file",):
        assert main(["bench", "http://127.0.0.1:1", *SMALL, flag, str(path)], {}) == 2
        assert f"'{path}" in (said := failure(capsys))
        assert "cannot be written" in said


def test_a_report_is_printed_although_its_file_cannot_be_written(server: Any, capsys: Captured) -> None:
    """As on a disk that has become full meanwhile."""
    assert bench(server, *SMALL, "--json", "/dev/full") == 2
    out, err = capsys.readouterr()
    assert "deliveries" in out
    assert "'/dev/full' cannot be written: No space left on device" in err


def test_without_the_extra_there_is_no_reference(
    server: Any, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is measured all the same, and a sentence says what to install."""
    monkeypatch.setitem(servers._REQUIRES, "api", ("no_package_of_this_name",))
    path, own = tmp_path / "report.json", str(os.getpid())
    flags = ("--scenario", "publish", "--messages", "20", "--pid", own, "--json", str(path))
    assert bench(server, *flags) == 0
    assert [step.reference for step in document(path).steps] == [None, None]
    assert "pip install no_package_of_this_name`" in capsys.readouterr().err


def test_a_restart_needs_a_server_of_its_own(server: Any, capsys: Captured) -> None:
    """A running server is not killed."""
    assert bench(server, "--scenario", "idle,restart", "--clients", "1") == 2
    sentence = (
        "--scenario restart starts and ends servers of its own: leave out URL (see channelstream bench -h)"
    )
    assert capsys.readouterr().err == f"channelstream: {sentence}\n"
