"""The API explorer's routes."""

import threading
from dataclasses import replace
from typing import Any

from httpx import Client
from starlette.applications import Starlette
from tests.site import Bridge, openapi, page_needs

from channelstream.core.request_signing import SCHEME, RequestSignature, hash_of
from channelstream.pages.act import Act
from channelstream.site import routes

RIGHT = {"username": "admin", "password": "open sesame"}


def test_the_page_names_the_document_of_the_server(browser: Client) -> None:
    """The page names the document; the document is the server's, below its own prefix."""
    browser.post("/admin/sign_in", data=RIGHT)
    assert "/openapi.json" in browser.get("/api-explorer").text
    document = browser.get("/openapi.json").json()
    assert document["paths"].keys() == {"/message", "/info"}
    assert document["servers"] == [{"url": "/"}]


def test_document_is_built_outside_of_the_event_loop(settings, push_server, panel, acts) -> None:
    """Both for the page and for a signature: building it takes the time of several loop turns."""
    threads: list[threading.Thread] = []

    def build() -> dict[str, Any]:
        threads.append(threading.current_thread())
        return openapi()

    needs = replace(page_needs(settings, push_server, panel, acts), openapi=build)
    app = Starlette(routes=routes(settings, needs))
    with Client(transport=Bridge(app, ""), base_url="http://push.test") as admin:
        admin.post("/admin/sign_in", data=RIGHT)
        assert admin.get("/openapi.json").status_code == 200
        assert admin.post("/admin/sign", json={"path": "/message"}).status_code == 200
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_document_is_forbidden_to_strangers(browser: Client) -> None:
    """The document answers 403, as it did in the second generation."""
    assert browser.get("/openapi.json").status_code == 403


def test_signs_paths_of_the_api_for_the_admin(browser: Client, settings, acts) -> None:
    """The signature is that of the call asked for; it is recorded."""
    browser.post("/admin/sign_in", data=RIGHT)
    call = {"path": "/message", "method": "PATCH", "query": "?a=b%20c", "body": '{"x": "\u00e9"}'}
    header = browser.post("/admin/sign", json=call).json()["headers"]["authorization"]
    signature = RequestSignature.read(header.removeprefix(f"{SCHEME} "))
    assert signature is not None
    assert signature.is_genuine(settings.secret, "PATCH", b"/message?a=b%20c", hash_of(call["body"].encode()))
    assert acts.recorded[-1] == Act("admin", "127.0.0.1", "had a call signed of", "path", "/message")


def test_signs_paths_with_parameters(settings, push_server, panel, acts) -> None:
    """Each stands for one segment of what is sent, as in the table of routes."""
    needs = page_needs(settings, push_server, panel, acts)
    rooms = {"paths": {"/rooms/{room}/places/{place}": {}}}
    app = Starlette(routes=routes(settings, replace(needs, openapi=lambda: rooms)))
    with Client(transport=Bridge(app, ""), base_url="http://push.test") as admin:
        admin.post("/admin/sign_in", data=RIGHT)
        path = "/rooms/a%20b/places/7"
        header = admin.post("/admin/sign", json={"path": path}).json()["headers"]["authorization"]
        signature = RequestSignature.read(header.removeprefix(f"{SCHEME} "))
        assert signature is not None
        assert signature.is_genuine(settings.secret, "POST", path.encode(), hash_of(b""))
        for other in ("/rooms//places/7", "/rooms/a/b/places/7", "/rooms/a/places/7/", "/rooms/a/places/7?b"):
            assert admin.post("/admin/sign", json={"path": other}).status_code == 404


def test_nothing_else_is_signed(browser: Client) -> None:
    """Not for strangers, not for Basic, not for other sites or paths, and not for malformed requests."""
    assert browser.post("/admin/sign", json={"path": "/message"}).status_code == 403
    assert (
        browser.post("/admin/sign", json={"path": "/message"}, auth=("admin", "open sesame")).status_code
        == 403
    )
    browser.post("/admin/sign_in", data=RIGHT)
    foreign = {"origin": "http://evil.test"}
    assert browser.post("/admin/sign", json={"path": "/message"}, headers=foreign).status_code == 403
    assert browser.post("/admin/sign", json={"path": "/admin"}).status_code == 404
    assert browser.post("/admin/sign", json={}).status_code == 404
    assert browser.post("/admin/sign", json=["/message"]).status_code == 400
    for body in (b"{", b'{"more": ' + b"[" * 100_000):
        assert browser.post("/admin/sign", content=body).status_code == 400
