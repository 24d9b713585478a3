"""The HTTP clients of calls: how many calls they carry at once, and that a forked child has its own."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import httpx
import pytest
from tests.waiting import PATIENCE_S, eventually, soon

from channelstream_client import Acting, AsyncChannelstream, BadAnswer, Channelstream, acting, http_clients
from channelstream_client.http_clients import LoopClients, ProcessClients

AT_ONCE = 3
NO_BODY: Any = {"content": b"", "headers": {}}
FORKING = """
import os, sys
from channelstream_client import Channelstream

client = Channelstream(sys.argv[1], "secret")
client.disconnect("parent")
for _ in range(2):
    if os.fork() == 0:
        client.disconnect("child")
        client.disconnect("child")
        client.close()
        os._exit(0)
    assert os.wait()[1] == 0
client.disconnect("parent")
"""


class Server(ThreadingHTTPServer):
    """Answers when the test lets it.

    Attributes:
        connections: how many were accepted.
        waiting: how many requests wait for their answer.
        most: the largest number of them.
        tokens: what the requests had as credentials, in the order in which they came.
    """

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.connections = self.waiting = self.most = 0
        self.tokens: list[str] = []
        self.answers = threading.Event()
        self.lock = threading.Lock()

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def count(self, change: int) -> None:
        with self.lock:
            self.waiting += change
            self.most = max(self.most, self.waiting)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.tokens.append(self.headers.get("authorization", ""))
        self.server.count(1)
        self.server.answers.wait(PATIENCE_S)
        self.server.count(-1)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.answers.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_clients, "CALLS_AT_ONCE", AT_ONCE)


def test_the_pool_of_httpx_has_a_connection_for_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no call waits in it, where it would take time for each other call."""
    monkeypatch.undo()
    with httpx.Client() as client:
        assert client._transport._pool._max_connections == http_clients.CALLS_AT_ONCE  # type: ignore[attr-defined]


def blocking(url: str, calls: int, meanwhile: Callable[[], None]) -> list[bool]:
    with Channelstream(url, "secret") as client, ThreadPoolExecutor(calls) as threads:
        asked = [threads.submit(client.disconnect, "c") for _ in range(calls)]
        meanwhile()
        return [each.result(PATIENCE_S) for each in asked]


def awaited(url: str, calls: int, meanwhile: Callable[[], None]) -> list[bool]:
    async def ask() -> list[bool]:
        async with AsyncChannelstream(url, "secret") as client:
            asked = [asyncio.create_task(client.disconnect("c")) for _ in range(calls)]
            await asyncio.to_thread(meanwhile)
            return await asyncio.gather(*asked)

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [blocking, awaited])
def test_further_calls_wait_in_turn(server: Server, ask: Callable[..., list[bool]]) -> None:
    """Some calls are under way at once; those beyond are sent as these are answered, and none fails."""

    def meanwhile() -> None:
        eventually(lambda: server.waiting == AT_ONCE, "fewer are under way")
        server.answers.set()

    assert ask(server.url, 5 * AT_ONCE, meanwhile) == [True] * 5 * AT_ONCE
    assert server.most == AT_ONCE


def test_further_commands_wait_in_turn(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a client with a token, as calls do."""
    monkeypatch.setattr(acting, "COMMANDS_AT_ONCE", AT_ONCE)

    async def get_token() -> str:
        return "t"

    async def ask() -> list[BaseException | str]:
        async with Acting(server.url, get_token) as client:
            client._client.token = "t"
            client._connect("c-1")
            asked = [asyncio.create_task(client.publish("news", number)) for number in range(5 * AT_ONCE)]
            await soon(lambda: server.waiting == AT_ONCE)
            server.answers.set()
            return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(outcome) for outcome in asyncio.run(ask())} == {BadAnswer}  # true is no list of replies.
    assert server.most == AT_ONCE


def test_a_command_that_has_waited_has_the_token_of_now(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one with which it began to wait may have expired."""
    monkeypatch.setattr(acting, "COMMANDS_AT_ONCE", 1)

    async def get_token() -> str:
        return "t-1"

    async def ask() -> None:
        async with Acting(server.url, get_token) as client:
            client._client.token = "t-1"
            client._connect("c-1")
            asked = [asyncio.create_task(client.publish("news", number)) for number in range(2)]
            await soon(lambda: server.waiting == 1)
            client._client.token = "t-2"
            server.answers.set()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(ask())
    assert server.tokens == ["Bearer t-1", "Bearer t-2"]


def test_a_call_waits_for_a_bounded_time(server: Server) -> None:
    """A call that others keep waiting fails as one without a free connection, and theirs are not harmed."""
    clients = ProcessClients(lambda: httpx.Client(timeout=PATIENCE_S), 0.01)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        asked = [threads.submit(clients.request, "POST", server.url, **NO_BODY) for _ in range(AT_ONCE)]
        eventually(lambda: server.waiting == AT_ONCE, "fewer are under way")
        with pytest.raises(httpx.PoolTimeout, match="none of"):
            clients.request("POST", server.url, **NO_BODY)
        server.answers.set()
        assert [each.result(PATIENCE_S).status_code for each in asked] == [200] * AT_ONCE
    assert clients.request("POST", server.url, **NO_BODY).status_code == 200
    clients.close()


def test_an_awaited_call_waits_for_a_bounded_time(server: Server) -> None:
    """As a blocking one. Calls that are cancelled make room for others."""

    async def ask() -> None:
        clients = LoopClients(lambda: httpx.AsyncClient(timeout=PATIENCE_S), 0.01)
        asked = [asyncio.create_task(clients.request("POST", server.url, **NO_BODY)) for _ in range(AT_ONCE)]
        await soon(lambda: server.waiting == AT_ONCE)
        with pytest.raises(httpx.PoolTimeout, match="none of"):
            await clients.request("POST", server.url, **NO_BODY)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
        server.answers.set()
        answers = [await clients.request("POST", server.url, **NO_BODY) for _ in range(2 * AT_ONCE)]
        assert {answer.status_code for answer in answers} == {200}
        await clients.close()

    asyncio.run(ask())


def test_loops_of_other_threads_may_begin_meanwhile(server: Server) -> None:
    """While the clients of closed loops are looked for."""
    server.answers.set()
    clients = LoopClients(httpx.AsyncClient, PATIENCE_S)

    class Loop:
        def is_closed(self) -> bool:
            clients._clients[cast(Any, object())] = cast(Any, None)
            return False

    async def ask() -> None:
        clients._clients[cast(Any, Loop())] = cast(Any, None)
        await clients.request("POST", server.url, **NO_BODY)

    asyncio.run(ask())


def test_a_forked_child_opens_its_own_connections(server: Server) -> None:
    """Those of its parent and siblings would mix their answers, as in an application that forks its workers."""
    server.answers.set()
    subprocess.run([sys.executable, "-c", FORKING, server.url], check=True, timeout=PATIENCE_S)
    assert server.connections == 3


def test_a_closed_client_calls_nobody(server: Server) -> None:
    client = Channelstream(server.url, "secret")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="Channelstream is closed"):
        client.disconnect("c")
    assert server.connections == 0


def test_each_loop_keeps_its_client(server: Server) -> None:
    """Whatever loop calls meanwhile: the connections of the others stay open, also between their calls."""
    server.answers.set()
    client = AsyncChannelstream(server.url, "secret")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        for runner in (first, second, first, second):
            assert runner.run(client.disconnect("c"))
    assert server.connections == 2


def test_an_ended_loop_is_not_kept(server: Server) -> None:
    """Its client ends with it."""
    server.answers.set()
    client = AsyncChannelstream(server.url, "secret")

    async def ask() -> weakref.ref[asyncio.AbstractEventLoop]:
        await client.disconnect("c")
        return weakref.ref(asyncio.get_running_loop())

    ended = asyncio.run(ask())
    gc.collect()
    assert ended() is None
