"""The route of all pages, on a real socket."""

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.http.stage import POST, Stage, play, turns
from tests.waiting import soon

from channelstream.core.policy import Policy
from channelstream.http.router import ANY_METHOD
from channelstream.pages.app import page_route


@pytest.mark.parametrize("is_stopped", [False, True], ids=["client leaves", "server stops"])
def test_a_form_of_which_a_part_never_comes_is_no_refusal(
    is_stopped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is answered, so nobody is refused, and nothing failed."""
    begun: list[str] = []
    ended: list[str] = []

    async def page(request: Request) -> Response:
        begun.append(request.url.path)
        try:
            await request.body()
        finally:
            ended.append(request.url.path)
        return Response()

    async def scene(stage: Stage) -> None:
        refused: list[str] = []
        pages = [Route("/a", page, methods=["POST"])]
        route = page_route(pages, Policy(), "", lambda *refusal: refused.append(refusal[2].code))
        stage.handler = route.handlers[ANY_METHOD]
        client = await stage.dial()
        await client.send(POST % 10 + b"name=")
        await soon(lambda: begun == ["/a"])
        client.connection.stop() if is_stopped else client.end()
        await soon(lambda: ended == begun)
        await turns()
        assert (await client.rest(), refused) == (b"", [])

    play(scene)
    assert caplog.messages == []
