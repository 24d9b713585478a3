"""How often an address may fail to sign in, over real sockets."""

import asyncio
import socket

import pytest
import uvloop
from tests.conftest import ADMIN_SECRET
from tests.http_client import async_client
from tests.waiting import PATIENCE_S

from channelstream.config import Settings
from channelstream.http.address_rates import FAILURES_AT_ONCE
from channelstream.pages import throttle
from channelstream.server import build

METRIC = 'channelstream_address_limited_total{what="sign_in",worker="0"} '


def test_an_address_that_has_failed_too_often_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right password is not looked at, in the form and with HTTP Basic; from another address it is, and from there the
    metrics count what was refused.
    """
    monkeypatch.setattr(throttle, "delay_s", lambda failures: 0.0)
    settings = Settings(
        admin_secret=ADMIN_SECRET, trusted_proxies=("127.0.0.1",), max_address_failure_rate=0.01
    )

    async def scenario() -> None:
        server, started = build(settings), asyncio.Event()
        server.on_started = started.set
        listening = socket.create_server(("127.0.0.1", 0))
        task = asyncio.create_task(server.run([listening]))
        await started.wait()
        async with async_client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:

            async def read(address: str, password: str) -> tuple[int, str]:
                headers = {"x-forwarded-for": address}
                answer = await client.get("/metrics", auth=("admin", password), headers=headers)
                return answer.status_code, answer.text

            for _ in range(FAILURES_AT_ONCE):
                assert (await read("192.0.2.1", "wrong"))[0] == 401
            assert (await read("192.0.2.1", ADMIN_SECRET))[0] == 429
            form = {"username": "admin", "password": ADMIN_SECRET}
            answer = await client.post(
                "/admin/sign_in", data=form, headers={"x-forwarded-for": "::ffff:192.0.2.1"}
            )
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 60
            assert "Too many failed sign-ins of this address." in answer.text
            status, text = await read("192.0.2.2", ADMIN_SECRET)
            assert status == 200
            assert [line for line in text.splitlines() if line.startswith(METRIC)] == [METRIC + "2.0"]
        server.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task

    uvloop.run(scenario())
