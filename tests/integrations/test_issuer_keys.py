"""Public keys of issuers: real files and addresses, and addresses that attack the server which asks them."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms
from tests.local_server import LocalHandler, LocalServer, running

from channelstream.apps.app import App
from channelstream.auth.issuer import Issuer, SignedBy
from channelstream.auth.public_keys import read_keys
from channelstream.integrations import issuer_keys
from channelstream.integrations.issuer_keys import KEYS_BYTES, MAX_AGE_S, READ_AGAIN_S, IssuerKeys

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def key_set(*ids: str) -> bytes:
    jwk = get_default_algorithms()["ES256"].to_jwk(KEY, as_dict=True)
    return json.dumps({"keys": [{**jwk, "kid": each} for each in ids]}).encode()


class Provider:
    """An identity provider, which answers as a test says.

    Attributes:
        answer: sends the answer to a request.
        asked: the paths that were requested.
        accepted: the encodings that each request accepts.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Any], None] = lambda handler: self.send(handler, key_set("a"))
        self.asked: list[str] = []
        self.accepted: list[str] = []
        provider = self

        class Handler(LocalHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                provider.accepted.append(self.headers["accept-encoding"])
                provider.answer(self)

        self.server = LocalServer(Handler)
        self.url = f"{self.server.url}/keys"

    def send(self, handler: Any, body: bytes, status: int = 200, **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        # The server under test may have closed the line: it reads no more than it needs.
        with suppress(OSError):
            handler.wfile.write(body)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    with running(made.server):
        yield made


class Scene:
    """An issuer whose keys are at a source, and a clock that a test moves."""

    def __init__(self, source: str, issuer: Issuer | None = None) -> None:
        self.now_s = 1000.0
        self.issuer = issuer or Issuer("es", App(), SignedBy.ES256, {})
        self.keys = IssuerKeys([(self.issuer, source)], lambda: self.now_s)

    async def settled(self) -> None:
        """Wait for the reads under way."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_keys_are_read_when_a_token_needs_one(provider: Provider) -> None:
    """Once for all that ask meanwhile, and again only some time later."""

    async def scenario() -> None:
        scene = Scene(provider.url)
        scene.keys.renew()
        await scene.settled()
        assert provider.asked == []
        assert await asyncio.gather(scene.keys.read("es"), scene.keys.read("es")) == [True, True]
        assert list(scene.issuer.keys) == ["a"]
        provider.answer = lambda handler: provider.send(handler, key_set("b"))
        scene.now_s += READ_AGAIN_S - 1
        assert await scene.keys.read("es") is False
        assert provider.asked == ["/keys"]
        scene.now_s += 1
        assert await scene.keys.read("es") is True
        assert list(scene.issuer.keys) == ["b"]

    play(scenario())


def test_a_client_is_made_beside_the_event_loop(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """To import the library and to read the certificates takes 0.1 s, for which no stream must wait."""
    makers: list[threading.Thread] = []

    class Recorded(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            makers.append(threading.current_thread())
            super().__init__(**options)

    monkeypatch.setattr(httpx, "AsyncClient", Recorded)

    async def scenario() -> None:
        assert await Scene(provider.url).keys.read("es") is True

    play(scenario())
    assert len(makers) == 1
    assert makers != [threading.current_thread()]


def test_keys_in_use_are_read_again_when_they_are_old(provider: Provider) -> None:
    """So a key that its issuer has withdrawn is refused. Those that were read last stay if that fails."""

    async def scenario() -> None:
        scene = Scene(provider.url)
        await scene.keys.read("es")
        scene.now_s += MAX_AGE_S - 1
        scene.keys.renew()
        await scene.settled()
        assert len(provider.asked) == 1
        provider.answer = lambda handler: provider.send(handler, b"", 500)
        scene.now_s += 1
        scene.keys.renew()
        scene.keys.renew()
        await scene.settled()
        assert len(provider.asked) == 2
        assert list(scene.issuer.keys) == ["a"]
        provider.answer = lambda handler: provider.send(handler, key_set("b"))
        scene.now_s += MAX_AGE_S
        scene.keys.renew()
        await scene.settled()
        assert list(scene.issuer.keys) == ["b"]

    play(scenario())


def hang(handler: Any) -> None:
    """Send the head of an answer, and then nothing until the client goes."""
    handler.send_response(200)
    handler.end_headers()
    handler.rfile.read(1)


ATTACKS: dict[str, Callable[[Provider], Callable[[Any], None]]] = {
    "redirects": lambda provider: lambda handler: provider.send(handler, b"", 302, Location="/inside"),
    "is huge": lambda provider: (
        lambda handler: provider.send(handler, b" " * (KEYS_BYTES + 1) + key_set("x"))
    ),
    "hangs": lambda _: hang,
    "is no set": lambda provider: lambda handler: provider.send(handler, b"<html>"),
    "has no key": lambda provider: lambda handler: provider.send(handler, b'{"keys":[]}'),
    "is down": lambda provider: lambda handler: handler.connection.close(),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_address_that_misbehaves_changes_nothing(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """It is left in time, no other address is asked, the last keys stay, and the log says why."""

    async def scenario() -> None:
        scene = Scene(provider.url)
        await scene.keys.read("es")
        if name == "hangs":
            monkeypatch.setattr(issuer_keys, "FETCH_S", 0.2)
        provider.answer = ATTACKS[name](provider)
        scene.now_s += READ_AGAIN_S
        assert await scene.keys.read("es") is False
        assert list(scene.issuer.keys) == ["a"]
        assert set(provider.asked) == {"/keys"}
        assert "the keys of the issuer 'es' cannot be read" in caplog.text

    play(scenario())


def test_a_file_is_read_again_too(tmp_path: Path) -> None:
    """As an address is: a new key needs no restart."""

    async def scenario() -> None:
        file = tmp_path / "keys"
        scene = Scene(str(file))
        assert await scene.keys.read("es") is False
        file.write_bytes(KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        scene.now_s += READ_AGAIN_S
        assert await scene.keys.read("es") is True
        assert list(scene.issuer.keys) == [""]
        file.write_bytes(b" " * (KEYS_BYTES + 1))
        scene.now_s += READ_AGAIN_S
        assert await scene.keys.read("es") is False

    play(scenario())


def test_a_key_that_is_taken_out_of_a_file_is_refused(tmp_path: Path) -> None:
    """A file is read at the start of the server; the keys are read again as those of an address are."""

    async def scenario() -> None:
        file = tmp_path / "keys"
        file.write_bytes(key_set("b"))
        issuer = Issuer("es", App(), SignedBy.ES256, read_keys(key_set("a", "b"), SignedBy.ES256))
        scene = Scene(str(file), issuer)
        scene.now_s += MAX_AGE_S
        scene.keys.renew()
        await scene.settled()
        assert list(scene.issuer.keys) == ["b"]

    play(scenario())


def test_a_key_that_a_file_has_got_since_the_start_is_read_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "keys"
        file.write_bytes(key_set("a", "b"))
        scene = Scene(str(file), Issuer("es", App(), SignedBy.ES256, read_keys(key_set("a"), SignedBy.ES256)))
        assert await scene.keys.read("es") is True
        assert list(scene.issuer.keys) == ["a", "b"]

    play(scenario())


def test_a_compressed_answer_is_not_expanded(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """A text of 64 MB in 64 KB would be in memory before it is found to be too long."""
    provider.answer = lambda handler: provider.send(
        handler, gzip.compress(key_set("a")), **{"content-encoding": "gzip"}
    )

    async def scenario() -> None:
        scene = Scene(provider.url)
        assert await scene.keys.read("es") is False
        assert provider.accepted == ["identity"]

    play(scenario())
    assert "neither PEM nor a set of keys" in caplog.text


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999/", "https://xn--/", "https://\x80/"])
def test_an_address_that_cannot_be_asked_is_a_warning(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """And no error of the client whose token needs the keys."""

    async def scenario() -> None:
        assert await Scene(url).keys.read("es") is False

    play(scenario())
    assert "the keys of the issuer 'es' cannot be read: no answer" in caplog.text
