"""Calls to receivers: where they go, and what counts as an answer."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.waiting import PATIENCE_S
from tests.webhook_receiver import WebhookReceiver, webhook_receiver

from channelstream.apps.webhooks import Receiver
from channelstream.integrations.webhooks import post
from channelstream.integrations.webhooks.calling import NotAccepted
from channelstream.integrations.webhooks.post import Poster, is_public

HEADERS = {"content-type": "application/json", "x-one": "1"}
LOCAL = ("127.0.0.1",)
SYSTEM = ssl.create_default_context()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as running:
        yield running


async def attempt(
    url: str, networks: tuple[str, ...] = LOCAL, calls: int = 1, trust: ssl.SSLContext = SYSTEM
) -> str:
    """Make calls one after the other; return why one was not accepted, and nothing if all were."""
    return str(await refusal(url, networks, calls, trust) or "")


async def refusal(
    url: str, networks: tuple[str, ...] = LOCAL, calls: int = 1, trust: ssl.SSLContext = SYSTEM
) -> NotAccepted | None:
    """Make calls one after the other; return the error of the first that was not accepted."""
    poster = Poster(Receiver("default", url, frozenset(), networks=networks), trust)
    try:
        for number in range(calls):
            await poster.post(HEADERS, b"body %d" % number)
    except NotAccepted as error:
        return error
    finally:
        await poster.close()
    return None


def outcome(url: str, networks: tuple[str, ...] = LOCAL, calls: int = 1) -> str:
    """Do the same in an event loop of its own."""
    return asyncio.run(attempt(url, networks, calls))


def test_a_call_arrives_as_it_is(receiver: WebhookReceiver) -> None:
    """With these headers only besides those of HTTP; several calls use one connection."""
    assert outcome(f"{receiver.url}?token=1", calls=3) == ""
    assert [call.body for call in receiver.calls] == [b"body 0", b"body 1", b"body 2"]
    assert {call.path for call in receiver.calls} == {"/hooks?token=1"}
    assert receiver.calls[0].headers == HEADERS | {
        "host": receiver.url.split("/")[2], "content-length": "6",
    }  # fmt: skip


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_accepts(receiver: WebhookReceiver, status: int) -> None:
    receiver.status = status
    assert outcome(receiver.url) == ""


@pytest.mark.parametrize("status", [301, 307, 400, 410, 500, 503])
def test_another_status_does_not_accept(receiver: WebhookReceiver, status: int) -> None:
    """A redirection is not followed."""
    receiver.status, receiver.headers = status, {"location": f"{receiver.url}/other"}
    refused = asyncio.run(refusal(receiver.url))
    assert refused is not None
    assert (str(refused), refused.status) == (f"status {status}", status)
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("7", 7.0), ("0", 0.0), ("-1", 0.0), ("Fri, 31 Dec 2027 23:59:59 GMT", 0.0), ("9" * 99, 0.0)],
)
def test_a_refusal_may_say_when_to_come_again(receiver: WebhookReceiver, value: str, wait_s: float) -> None:
    """In seconds; a date is not heeded, as clocks differ."""
    receiver.status, receiver.headers = 503, {"retry-after": value}
    refused = asyncio.run(refusal(receiver.url))
    assert refused is not None
    assert refused.wait_s == wait_s


def test_only_public_addresses_are_called(receiver: WebhookReceiver) -> None:
    """Unless the option allows others, whatever name leads there."""
    port = receiver.url.split(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0x7f000001"):
        assert outcome(f"http://{host}:{port}", ()).startswith("its address is not public")
    assert outcome(receiver.url, ("10.0.0.0/8",)).startswith("its address is not public")
    assert receiver.calls == []


def test_the_address_that_was_checked_is_called(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that answers differently the second time changes nothing: it is asked once for a connection."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_more: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    connected: list[str] = []

    async def connect(_self: object, host: str, *_more: Any) -> Any:
        connected.append(host)
        raise post.httpcore.ConnectError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(post.httpcore.AnyIOBackend, "connect_tcp", connect)
    assert outcome("http://hooks.example/", ()).startswith("no answer")
    assert outcome("http://hooks.example/", ()).startswith("its address is not public")
    assert (asked, connected) == (["hooks.example"] * 2, ["93.184.216.34"])


def test_the_addresses_of_a_name_are_tried_in_turn(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not allowed, or at which nobody listens, is passed over; if none is left, the call has no answer."""
    port = receiver.url.split(":")[2].partition("/")[0]
    addresses = ["10.0.0.1", "127.0.0.9", "127.0.0.8", "127.0.0.1"]

    def getaddrinfo(host: str, port: int, **_more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert outcome(f"http://hooks.example:{port}/", ("127.0.0.0/8",)) == ""
    addresses.remove("127.0.0.1")
    assert (
        outcome(f"http://hooks.example:{port}/", ("127.0.0.0/8",))
        == "no answer: nothing listens at its address"
    )
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::10.0.0.1", False),
        ("::ffff:0:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("fec0::1", False),
        ("2002:a00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    """Neither this machine, nor its networks, nor the metadata of a cloud, in any form."""
    assert is_public(address) is expected


def test_an_address_that_is_silent_does_not_take_the_whole_time(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of IPv6 in a network that has none: the next one of the name is called."""
    port = int(receiver.url.split(":")[2].split("/")[0])

    def getaddrinfo(host: str, port: int, **_more: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")
        ]

    with socket.create_server(("127.0.0.2", port), backlog=1) as silent:
        waiting = [socket.socket() for _ in range(3)]  # As many as its system accepts without the program.
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(post, "CONNECT_S", 0.3)
        monkeypatch.setattr(post, "TIMEOUT_S", PATIENCE_S)
        assert outcome(f"http://hooks.example:{port}", ("127.0.0.0/8",)) == ""
        for each in waiting:
            each.close()


def test_a_slow_resolver_delays_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls wait for it: other work of the process has the threads of the event loop."""
    is_asked, answers = threading.Event(), threading.Event()

    def getaddrinfo(host: str, port: int, **_more: Any) -> Any:
        is_asked.set()
        answers.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def life() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        poster = Poster(Receiver("default", "http://hooks.example", frozenset()), SYSTEM)
        calls = [asyncio.get_running_loop().create_task(poster.post(HEADERS, b"body")) for _ in range(8)]
        while not is_asked.is_set():
            await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.to_thread(threading.get_ident), PATIENCE_S)
        finally:
            answers.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(each) for each in errors] == ["its name has no address"] * 8
        await poster.close()

    asyncio.run(life())


def test_calls_that_were_cancelled_leave_room(receiver: WebhookReceiver) -> None:
    """At any moment, as when the lease is lost: the node may hold it again."""

    async def life() -> None:
        poster = Poster(Receiver("default", receiver.url, frozenset(), networks=LOCAL), SYSTEM)
        for turns in range(20):
            call = asyncio.get_running_loop().create_task(poster.post(HEADERS, b"body"))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await poster.post(HEADERS, b"last")
        await poster.close()

    asyncio.run(life())
    assert b"last" in [call.body for call in receiver.calls]


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert outcome(f"http://127.0.0.1:{port}") == "no answer: nothing listens at its address"


def test_what_is_no_name_has_no_address() -> None:
    assert outcome(f"http://{'a' * 64}.example") == "its name has no address"


def test_a_name_has_no_address(failed_lookup: str) -> None:
    assert outcome("http://hooks.example") == failed_lookup


def test_a_slow_receiver_is_not_waited_for(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that answers byte by byte."""
    is_over = threading.Event()
    monkeypatch.setattr(post, "TIMEOUT_S", 0.2)
    receiver.before_answer = is_over.wait
    assert outcome(receiver.url) == "no answer within 0.2 s"
    is_over.set()


def test_an_endless_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status counts; the connection is closed."""

    async def life() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"body")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            try:
                while True:
                    writer.write(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
                    await writer.drain()
            except OSError:
                closed.set()
            finally:
                writer.close()

        closed = asyncio.Event()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            poster = Poster(Receiver("default", url, frozenset(), networks=LOCAL), SYSTEM)
            await poster.post(HEADERS, b"body")
            await closed.wait()
            await poster.close()

    asyncio.run(life())


def test_what_does_not_speak_http_is_no_answer() -> None:
    async def life() -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-x\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await attempt(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert asyncio.run(life()).startswith("no answer (")


def test_a_certificate_of_nobody_is_refused(certificate: tuple[str, str]) -> None:
    """The name is checked, too: that of the URL, although an address is called."""

    async def life(trust: ssl.SSLContext, host: str) -> str:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(*certificate)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"body")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own) as server:
            return await attempt(f"https://{host}:{server.sockets[0].getsockname()[1]}", trust=trust)

    known = ssl.create_default_context(cafile=str(certificate[0]))
    assert asyncio.run(life(known, "127.0.0.1")) == ""
    refused = "no answer: its certificate is not trusted"
    assert asyncio.run(life(known, "localhost")).startswith(f"{refused} (Hostname mismatch")
    assert asyncio.run(life(SYSTEM, "127.0.0.1")) == f"{refused} (self-signed certificate)"
