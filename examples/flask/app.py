"""A small chat in Flask: it signs users in, and publishes their messages by the push server."""

import os
import secrets
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, request, send_from_directory, session

from channelstream_client import (
    ChannelSettings,
    Channelstream,
    ChannelstreamError,
    Connection,
    Message,
    Unreachable,
)

ROOT = Path(__file__).parents[2]
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")

CHAT = {"chat": ChannelSettings(notify_presence=True, store_history=True, history_size=20)}

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
def connection() -> dict[str, Any]:
    # `since` is the last position of a page that lost its connection. Everybody may read the chat, so it may resume there.
    since = str(request.get_json().get("since") or "")
    made = server.connect(name(), ["chat"], channel_configs=CHAT, since=since)
    return opened(made)


def opened(made: Connection) -> dict[str, Any]:
    """Return the page's initial data: its connection, earlier messages, and the users."""
    chat = made.channels_info.channels["chat"]
    history = [{"uuid": sent.uuid, "user": sent.user, "message": sent.message} for sent in chat.history]
    present = {"channels": {"chat": {"users": list(chat.users)}}}
    return {"conn_id": made.conn_id, "position": made.position, "history": history, "channels_info": present}


@app.post("/say")
def say() -> dict[str, str]:
    text = str(request.get_json()["text"])
    return {"uuid": server.publish(Message(user=name(), channel="chat", message={"text": text})).uuid}


def explained(error: Exception) -> str:
    return f"the push server {'cannot be reached' if isinstance(error, Unreachable) else 'refuses this'}: {error}"


@app.errorhandler(ChannelstreamError)
def not_served(error: ChannelstreamError) -> tuple[dict[str, str], int]:
    return {"error": explained(error)}, 502


def name() -> str:
    return session.get("name") or abort(401)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
