"""The table of the server: who answers what, and what all answers have in common."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from tests.http.stage import GET, Stage, ok, play
from tests.waiting import soon

from channelstream.core.http_head import RequestHead, read_head
from channelstream.core.policy import Policy
from channelstream.errors import Invalid
from channelstream.http.asgi import AsgiHandler, RouterApp, ScopeRequest
from channelstream.http.parts import Parts
from channelstream.http.request import Part, Request
from channelstream.http.response import TEXT, Response
from channelstream.http.router import Route, Router
from channelstream.http.takeover import TakeOver

PROXY = "10.0.0.1"


class NoBody:
    """A request without a body."""

    async def receive(self) -> Part | None:
        return b"", False

    def take_whole(self) -> bytes:
        return b""

    def line(self) -> None:
        return None


def asked(path: str, method: str = "GET", *lines: str, client: str = PROXY) -> RequestHead:
    """Return the head of a request."""
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""])
    return read_head(head.encode(), (client, 1))


async def echo(request: Request) -> Response:
    """Answer with what the router has made of the request."""
    return Response(json.dumps([request.path, dict(request.parameters), request.arguments]).encode())


def answered(router: Router, head: RequestHead) -> Response:
    """Return what the router answers."""
    request = router.request(head, NoBody())
    assert not isinstance(router.match(request), TakeOver)
    response = asyncio.run(router.answer(request))
    assert response is not None
    return response


def test_the_next_request_with_a_head_has_no_prefix_in_its_path() -> None:
    """Neither has the first one: a handler that reads the path of the head finds the same."""
    router = Router(Policy(), (), apps={"shop": Router(Policy(), ())})
    request = router.request(asked("/app/shop/message"), NoBody())
    for _ in range(2):
        assert (request.path, request.head.path, request.app_id) == ("/message", "/message", "shop")
        request.again(asked("/app/shop/message"))


ROUTES = (
    Route("/app/{key}", {"GET": echo}),
    Route("/app/own", {"GET": echo}),
    Route("/a.b/{x}/c/{y}", {"GET": echo}),
    Route("/of/{x:path}/end", {"GET": echo}),
)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/app/k1", {"key": "k1"}),
        ("/app/own", {}),
        ("/app/a%2Fb", None),
        ("/app/", None),
        ("/app/k/1", None),
        ("/a.b/1/c/2", {"x": "1", "y": "2"}),
        ("/aXb/1/c/2", None),
        ("/of/a/b//c/end/end", {"x": "a/b//c/end"}),
        ("/of/a%2Fb%0A/end", {"x": "a/b\n"}),
        ("/of//end", None),
        ("/of/a", None),
    ],
)
def test_a_parameter_stands_for_one_segment(path: str, parameters: dict[str, str] | None) -> None:
    """A literal path goes before one with parameters; a slash, also an encoded one, is only in one that may have several."""
    answer = answered(Router(Policy(), ROUTES), asked(f"{path}?q=1"))
    assert answer.status == (404 if parameters is None else 200)
    if parameters is not None:
        assert json.loads(answer.body) == [unquote(path), parameters, {"q": "1"}]  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "path"), [(PROXY, "/app/own"), ("9.9.9.9", None)])
def test_the_prefix_of_a_trusted_proxy_is_no_part_of_the_path(client: str, path: str | None) -> None:
    """Of any other peer it is: the path exists nowhere then."""
    router = Router(Policy(trusted_proxies=(PROXY,)), ROUTES)
    answer = answered(router, asked("/push/app/own", "GET", "X-Script-Name: /push", client=client))
    assert (json.loads(answer.body)[0] if answer.status == 200 else None) == path  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("OPTIONS", "/app/k", 200), ("PUT", "/app/k", 404), ("HEAD", "/app/k", 404), ("GET", "/b", 404)],
)
def test_answers_that_all_routes_share(method: str, path: str, status: int) -> None:
    """Preflights, methods and paths that do not exist, each with the CORS headers."""
    answer = answered(Router(Policy(), ROUTES), asked(path, method))
    assert (answer.status, answer.headers) == (status, Policy().cors(()))


def test_plain_http_is_refused_before_anything_else() -> None:
    """Also a preflight, and a path that does not exist."""
    router = Router(Policy(enforce_https=True), ROUTES)
    for head in (asked("/app/k"), asked("/app/k", "OPTIONS"), asked("/b")):
        assert answered(router, head).status == 406


# -- over a connection


def test_a_page_s_request_is_signed_as_a_call_is() -> None:
    """Without the prefix of a trusted proxy, though the page itself sees it."""
    seen: list[tuple[str, str]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], ScopeRequest(scope).path))
        await ok(scope, receive, send)

    async def scene(stage: Stage) -> None:
        stage.handler = AsgiHandler(page, Policy(trusted_proxies=("127.0.0.1",)))  # type: ignore[assignment]
        client = await stage.dial()
        await client.send(GET.replace(b"Host", b"X-Script-Name: /push\r\nHost"))
        await client.until(b"ok")

    play(scene)
    assert seen == [("/push/a", "/a")]


async def text(_request: Request) -> Response:
    return Response(b"occupied", headers=((b"x-own", b"1"),), content_type=TEXT)


def test_an_answer_may_be_text_with_headers_of_its_own() -> None:
    """They follow the usual ones."""

    async def scene(stage: Stage) -> None:
        stage.serve(Route("/a", {"GET": text}, ((b"cache-control", b"no-store"),)))
        client = await stage.dial()
        await client.send(GET)
        head = await client.until(b"\r\n\r\n")
        assert b"content-type: text/plain\r\ncontent-length: 8\r\nx-content-type-options: nosniff\r\n" in head
        assert head.endswith(b"cache-control: no-store\r\nx-own: 1\r\n\r\n")
        await client.until(b"occupied")

    play(scene)


class Numbers:
    """A body of unknown length that notes its end."""

    def __init__(self) -> None:
        self.is_closed = False

    async def stream(self, until: asyncio.Event) -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await until.wait()
            yield b"2"
        finally:
            self.is_closed = True


def test_an_answer_may_be_a_stream() -> None:
    """Its parts are sent as they come, in chunks; then the next request is served."""

    async def scene(stage: Stage) -> None:
        opens, numbers = asyncio.Event(), Numbers()

        async def stream(_request: Request) -> Response:
            return Response(numbers.stream(opens), content_type=TEXT)

        stage.serve(Route("/a", {"GET": stream}))
        client = await stage.dial()
        await client.send(GET)
        assert b"transfer-encoding: chunked" in await client.until(b"1\r\n1\r\n")
        opens.set()
        await client.until(b"1\r\n2\r\n0\r\n\r\n")
        assert numbers.is_closed
        await client.send(GET.replace(b"/a", b"/b"))
        await client.until(b"ok")

    play(scene)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_stream_that_no_one_reads_is_closed(method: bytes) -> None:
    """Of a client that has gone, after the next part; of HEAD, without any."""

    async def scene(stage: Stage) -> None:
        opens, numbers = asyncio.Event(), Numbers()

        async def stream(_request: Request) -> Response:
            return Response(numbers.stream(opens), content_type=TEXT)

        stage.serve(Route("/a", {"GET": stream, "HEAD": stream}))
        client = await stage.dial()
        await client.send(GET.replace(b"GET", method))
        await client.until(b"\r\n\r\n")
        if method == b"GET":
            client.transport.abort()
            await soon(client.transport.is_closing)
            opens.set()
        await soon(lambda: numbers.is_closed)

    play(scene)


def test_requests_sent_ahead_take_turns_with_those_of_others() -> None:
    """Each has a turn of the loop for itself, although its handler never waits."""
    count = 2000

    async def scene(stage: Stage) -> None:
        stage.handler = text
        many, other = await stage.dial(), await stage.dial()
        await many.send(GET * count)
        await soon(lambda: bool(stage.asked))
        await other.send(GET.replace(b"/a", b"/other"))
        await other.until(b"occupied")
        assert stage.asked.index("/other") < count // 2
        many.end()
        assert (await many.rest()).count(b"occupied") == count

    play(scene)


def test_a_request_sent_ahead_has_context_variables_of_its_own() -> None:
    """What the handler of the request before it has set is not seen."""
    variable = ContextVar("variable", default="")

    async def note(request: Request) -> Response:
        before = variable.get()
        variable.set(request.path)
        return Response(before.encode() + b".", content_type=TEXT)

    async def scene(stage: Stage) -> None:
        stage.handler = note
        client = await stage.dial()
        await client.send(GET * 3)
        client.end()
        assert (await client.rest()).count(b"\r\n\r\n.") == 3

    play(scene)


def test_a_failing_handler_is_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, and the connection serves the next request."""

    async def fail(_request: Request) -> Response:
        raise LookupError("of the handler")

    async def scene(stage: Stage) -> None:
        stage.serve(Route("/a", {"GET": fail}))
        client = await stage.dial()
        await client.send(GET + GET.replace(b"/a", b"/b"))
        answer = await client.until(b"\r\n\r\nok")
        assert answer.count(b"HTTP/1.1 500 ") == answer.count(b"HTTP/1.1 200 ") == 1
        assert b'"code":"internal"' in answer
        assert b"of the handler" not in answer

    play(scene)
    assert [record.getMessage() for record in caplog.records] == ["a request failed: GET /a"]


# -- in the process


def test_the_server_answers_a_client_in_its_process() -> None:
    """Whole answers, those in parts, and refusals, as over a connection."""

    async def parts(request: Request) -> Response:
        return Response(Parts([b"[", await request.read(10), b"]"]))

    async def refuse(_request: Request) -> Response:
        raise Invalid({"a": ["b"]})

    async def life() -> None:
        router = Router(Policy(), (Route("/parts", {"POST": parts}), Route("/refuse", {"GET": refuse})))
        transport = httpx.ASGITransport(app=RouterApp(router))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.post("/parts", content=b"1")).json() == [1]
            assert (await client.post("/parts", content=b"1" * 11)).status_code == 413
            refused = await client.get("/refuse")
            assert (refused.status_code, refused.json()["faults"]) == (422, {"a": ["b"]})
            assert (await client.get("/nowhere")).status_code == 404

    asyncio.run(life())


def test_an_application_has_a_router_of_its_own() -> None:
    """Which gets its requests without its prefix, and reports its refusals, whatever it has found out by itself."""
    reports: list[tuple[str, str]] = []

    async def refuse(request: Request) -> Response:
        request.app_id = "shop"
        raise Invalid({"a": ["b"]})

    routes = [Route("/echo", {"GET": echo}), Route("/refuse", {"GET": refuse})]
    shop = Router(
        Policy(origins=("https://shop.example",)),
        routes,
        on_refusal=lambda _method, route, _error, _address: reports.append(("shop", route)),
    )
    router = Router(
        Policy(),
        [Route("/refuse", {"GET": refuse})],
        on_refusal=lambda _method, route, _error, _address: reports.append(("", route)),
        apps={"shop": shop},
    )
    assert answered(router, asked("/app/shop/echo?a=1")).body == b'["/echo", {}, {"a": "1"}]'
    assert [answered(router, asked(path)).status for path in ("/echo", "/app/none/echo", "/app/shop")] == [
        404
    ] * 3
    assert [
        answered(router, asked(path)).status for path in ("/refuse", "/app/shop/refuse", "/app/shop/x")
    ] == [*(422, 422, 404)]
    assert reports == [("", "")] * 3 + [("shop", "/refuse")] * 2 + [("shop", "")]
    origin = b"access-control-allow-origin"
    assert [dict(answered(router, asked(path)).headers).get(origin) for path in ("/x", "/app/shop/x")] == [
        b"*",
        None,
    ]
