"""A small chat in Flask: it knows who is signed in, and tells the push server what was said."""

import os
import secrets
from pathlib import Path

from flask import Flask, Response, abort, request, send_from_directory, session

from channelstream_client import Channelstream, Info, Message

ROOT = Path(__file__).parents[2]
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")

app = Flask(__name__, static_folder=None)
app.secret_key = secrets.token_bytes(32)
server = Channelstream(URL, os.environ.get("CHANNELSTREAM_SECRET", "secret"))


@app.get("/")
def index() -> Response:
    return send_from_directory(ROOT / "examples/page", "index.html")


@app.get("/page.js")
def page() -> Response:
    return send_from_directory(ROOT / "examples/page", "page.js")


@app.get("/channelstream.js")
def client() -> Response:
    return send_from_directory(ROOT / "clients/js", "channelstream.js")


@app.post("/sign-in")
def sign_in() -> dict[str, str]:
    session["name"] = str(request.get_json()["name"])
    return {"url": URL}


@app.post("/connection")
def connection() -> dict[str, str]:
    # What a page had seen when it lost its connection: everybody may read the chat, so it reads on from there.
    since = str(request.get_json().get("since") or "")
    made = server.connect(name(), ["chat"], info=Info(include_history=False), since=since)
    return {"conn_id": made.conn_id, "position": made.position}


@app.post("/say")
def say() -> dict[str, str]:
    text = str(request.get_json()["text"])
    return {"uuid": server.publish(Message(user=name(), channel="chat", message={"text": text})).uuid}


def name() -> str:
    return session.get("name") or abort(401)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
