"""Why a request had no answer, from real errors of httpx."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.waiting import PATIENCE_S

from channelstream.integrations.no_answer import no_answer
from channelstream_client.testing.port import HeldPort


async def reason_of(url: str, within_s: float = PATIENCE_S) -> str:
    """Ask for this address; return why there was no answer."""
    async with httpx.AsyncClient(timeout=within_s, trust_env=False) as client:
        with pytest.raises(httpx.HTTPError) as failed:
            await client.get(url)
    return no_answer(failed.value)


@asynccontextmanager
async def answering(text: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer each connection with this text, or with nothing until its client is gone; yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        if not text:
            await reader.read()
            gone.set()
        writer.close()

    gone = asyncio.Event()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        if not text:
            await gone.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_listens(host: str) -> None:
    """At one address, or at all that a name has."""
    with HeldPort() as port:
        assert (
            asyncio.run(reason_of(f"http://{host}:{port.number}"))
            == "no answer: nothing listens at its address"
        )


def test_a_name_has_no_address(failed_lookup: str) -> None:
    assert asyncio.run(reason_of("http://hooks.example")) == f"no answer: {failed_lookup}"


def test_a_certificate_is_not_trusted(certificate: tuple[str, str]) -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(*certificate)

    async def life() -> str:
        async with answering(b"x", own) as port:
            return await reason_of(f"https://127.0.0.1:{port}")

    assert asyncio.run(life()) == "no answer: its certificate is not trusted (self-signed certificate)"


@pytest.mark.parametrize(
    ("scheme", "text", "expected"),
    [
        ("https", b"SSH-2.0-x\r\n", "no answer: TLS fails (WRONG_VERSION_NUMBER)"),
        ("http", b"SSH-2.0-x\r\n", "no answer (RemoteProtocolError)"),
    ],
)
def test_the_other_end_is_no_http_server(scheme: str, text: bytes, expected: str) -> None:
    """Its name of the fault is shown where nothing says more."""

    async def life() -> str:
        async with answering(text) as port:
            return await reason_of(f"{scheme}://127.0.0.1:{port}")

    assert asyncio.run(life()) == expected


def test_an_answer_does_not_come_in_time() -> None:
    async def life() -> str:
        async with answering(b"") as port:
            return await reason_of(f"http://127.0.0.1:{port}", within_s=0.1)

    assert asyncio.run(life()) == "no answer in time"
