"""How the secret of a running server changes: by its file, and without a stop."""

import os
import signal
import socket
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from itsdangerous import TimestampSigner
from tests.http_client import http
from tests.processes import children
from tests.redis_server import RedisServer
from tests.signing import signature
from tests.token_client import TokenClient, token
from tests.waiting import eventually

OLD, NEW = "the old secret, long enough to sign", "the new secret, long enough to sign"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def write(file: Path, *secrets: str) -> str:
    other = file.with_suffix(".new")
    other.touch(0o600)
    other.write_text("\n".join(secrets) + "\n")
    other.replace(file)
    return str(file)


def statuses(url: str, secret: str) -> set[int]:
    """Return what calls are answered with that this secret signs, in each form."""
    forms: list[dict[str, str]] = [
        {"x-channelstream-secret": TimestampSigner(secret).sign("/info").decode()},
        signature(secret, "POST", "/info", b"{}", ""),
        {"authorization": f"Bearer .{secret}"},
    ]
    answers = [http.post(f"{url}/info", content=b"{}", headers=headers) for headers in forms]
    answers.append(http.post(f"{url}/info", params={"secret": secret}, content=b"{}"))
    return {answer.status_code for answer in answers}


def test_a_secret_rotates_without_a_stop(start_server: Any, file: Path) -> None:
    """Callers change while both are accepted, in every form; streams of the old secret's tokens end with it."""
    server = start_server("--secret-file", write(file, OLD), CHANNELSTREAM_TOKEN_MAX_AGE_S="3600")

    def change(*secrets: str) -> None:
        write(file, *secrets)
        os.kill(server.process.pid, signal.SIGHUP)

    assert (statuses(server.url, OLD), statuses(server.url, NEW)) == ({200}, {401})
    with closing(TokenClient(server.ws_url, token(secret=OLD))) as of_old:
        change(NEW, OLD)
        eventually(lambda: statuses(server.url, NEW) == {200}, "the new secret is refused")
        assert statuses(server.url, OLD) == {200}
        line = "a caller of the application 'default' at 127.0.0.1 signs with an older secret"
        eventually(lambda: line in server.process.line(1.0), "the log does not say who has to change")
        with closing(TokenClient(server.ws_url, token(secret=NEW))) as of_new:
            of_old.command("unsubscribe", channels=["a"])
            change(NEW)
            assert of_old.end() == (4003, "token revoked")
            eventually(lambda: statuses(server.url, OLD) == {401}, "the old secret is accepted")
            assert statuses(server.url, NEW) == {200}
            of_new.command("unsubscribe", channels=["a"])


def test_a_connection_that_repeats_its_signature_is_refused(start_server: Any, file: Path) -> None:
    """Once the secret is gone, as the first request of a connection is, although the server has accepted the signature."""
    server = start_server("--secret-file", write(file, OLD))
    token, body = TimestampSigner(OLD).sign("/message"), b'{"user":"ann","channel":"a","message":1}'
    head = b"POST /message HTTP/1.1\r\nHost: x\r\nx-channelstream-secret: %b\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as caller:

        def status() -> int:
            caller.sendall(head % (token, len(body)) + body)
            answer = HTTPResponse(caller)
            answer.begin()
            answer.read()
            return answer.status

        assert [status() for _ in range(3)] == [200] * 3
        write(file, NEW)
        os.kill(server.process.pid, signal.SIGHUP)
        eventually(lambda: status() == 401, "the old secret is accepted")


def test_the_demo_and_the_explorer_sign_with_the_newest_secret(start_server: Any, file: Path) -> None:
    """Else they would end with the old one."""
    server = start_server("--secret-file", write(file, OLD), "--demo", "true", "--request-signing", "old")
    write(file, NEW)
    os.kill(server.process.pid, signal.SIGHUP)

    def is_registered() -> bool:
        answer = http.post(server.url + "/demo/connect", json={"username": "ann"})
        return answer.status_code == 200

    eventually(lambda: 401 in statuses(server.url, OLD), "the old secret is accepted")
    assert is_registered()


def test_an_application_rotates_its_own(start_server: Any, file: Path) -> None:
    """Below its path; the default one's is another."""
    server = start_server("-s", OLD, CHANNELSTREAM_APP_SHOP_SECRET_FILE=write(file, "of the shop"))
    write(file, NEW, "of the shop")
    os.kill(server.process.pid, signal.SIGHUP)
    shop = f"{server.url}/app/shop"
    eventually(lambda: statuses(shop, NEW) == {200}, "the new secret is refused")
    assert (statuses(shop, "of the shop"), statuses(shop, OLD)) == ({200}, {401})
    assert (statuses(server.url, OLD), statuses(server.url, NEW)) == ({200}, {401})


def test_a_broken_file_changes_nothing(start_server: Any, file: Path) -> None:
    """The log says so, without a secret."""
    server = start_server("--secret-file", write(file, OLD))
    write(file, NEW, "hunter2 ")
    os.kill(server.process.pid, signal.SIGHUP)
    lines: list[str] = []

    def is_reported() -> bool:
        lines.append(server.process.line(1.0))
        return "the keys stay as they were" in lines[-1]

    eventually(is_reported, "the log says nothing")
    assert (statuses(server.url, OLD), statuses(server.url, NEW)) == ({200}, {401})
    _, log = server.stop()
    assert not [each for each in (OLD, NEW, "hunter2") if each in "".join(lines) + log]


def test_a_secret_that_can_be_guessed_is_used_with_a_warning(start_server: Any, file: Path) -> None:
    """The log has the same sentence as at a start, without the secret."""
    server = start_server("--secret-file", write(file, OLD))
    write(file, "hunter2", OLD)
    os.kill(server.process.pid, signal.SIGHUP)
    lines: list[str] = []

    def is_reported() -> bool:
        lines.append(server.process.line(1.0))
        return "[channelstream] secret has fewer than 16 characters: one signature lets it" in lines[-1]

    eventually(is_reported, "the log says nothing")
    assert "WARNING" in lines[-1]
    assert statuses(server.url, "hunter2") == {200}
    _, log = server.stop()
    assert "hunter2" not in "".join(lines) + log


def test_all_workers_read_the_file(redis: RedisServer, start_server: Any, file: Path) -> None:
    """The signal goes to the parent."""
    server = start_server("--engine", redis.address, "--workers", "2", "--secret-file", write(file, OLD))
    pids = children(server.process.pid)
    write(file, NEW)
    os.kill(server.process.pid, signal.SIGHUP)
    eventually(
        lambda: all(statuses(server.url, OLD) == {401} for _ in range(10)), "a worker accepts the old secret"
    )
    assert all(statuses(server.url, NEW) == {200} for _ in range(10))
    assert children(server.process.pid) == pids


def test_the_secret_of_another_application_changes_nothing(start_server: Any, file: Path) -> None:
    """A start with it would be refused: the other one's server could act for this application."""
    server = start_server("-s", OLD, CHANNELSTREAM_APP_SHOP_SECRET_FILE=write(file, "of the shop"))
    write(file, OLD)
    os.kill(server.process.pid, signal.SIGHUP)
    line = "secret: [app:shop] and [channelstream] have the same one; give each application its own; the keys stay"
    eventually(lambda: line in server.process.line(1.0), "the log says nothing")
    shop = f"{server.url}/app/shop"
    assert (statuses(shop, "of the shop"), statuses(shop, OLD)) == ({200}, {401})
