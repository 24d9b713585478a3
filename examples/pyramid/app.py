"""A small chat in Pyramid: it knows who is signed in, and tells the push server what was said."""

import os
import secrets
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPUnauthorized
from pyramid.request import Request
from pyramid.response import FileResponse
from pyramid.session import SignedCookieSessionFactory

from channelstream_client import Channelstream, Info, Message

ROOT = Path(__file__).parents[2]
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")
FILES = {
    "/": "examples/page/index.html",
    "/page.js": "examples/page/page.js",
    "/channelstream.js": "clients/js/channelstream.js",
}

server = Channelstream(URL, os.environ.get("CHANNELSTREAM_SECRET", "secret"))


def file(request: Request) -> FileResponse:
    return FileResponse(str(ROOT / FILES[request.path]), request)


def sign_in(request: Request) -> dict[str, str]:
    request.session["name"] = str(request.json_body["name"])
    return {"url": URL}


def connection(request: Request) -> dict[str, str]:
    # What a page had seen when it lost its connection: everybody may read the chat, so it reads on from there.
    since = str(request.json_body.get("since") or "")
    made = server.connect(name(request), ["chat"], info=Info(include_history=False), since=since)
    return {"conn_id": made.conn_id, "position": made.position}


def say(request: Request) -> dict[str, str]:
    message = Message(user=name(request), channel="chat", message={"text": str(request.json_body["text"])})
    return {"uuid": server.publish(message).uuid}


def name(request: Request) -> str:
    if "name" not in request.session:
        raise HTTPUnauthorized
    return str(request.session["name"])


def application() -> Any:
    config = Configurator(session_factory=SignedCookieSessionFactory(secrets.token_hex(), httponly=True))
    for path in FILES:
        config.add_route(path, path)
        config.add_view(file, route_name=path)
    for path, view in {"/sign-in": sign_in, "/connection": connection, "/say": say}.items():
        config.add_route(path, path, request_method="POST")
        config.add_view(view, route_name=path, renderer="json")
    return config.make_wsgi_app()


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "5000")), application()).serve_forever()
