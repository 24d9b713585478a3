"""A small chat in FastAPI: it signs users in, and publishes their messages by the push server."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from itsdangerous import BadSignature, Signer

from channelstream_client import (
    AsyncChannelstream,
    ChannelSettings,
    ChannelstreamError,
    Connection,
    Message,
    Unreachable,
)

ROOT = Path(__file__).parents[2]
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")
CHAT = {"chat": ChannelSettings(notify_presence=True, store_history=True, history_size=20)}

app = FastAPI()
server = AsyncChannelstream(URL, os.environ.get("CHANNELSTREAM_SECRET", "secret"))
signer = Signer(secrets.token_hex())
Text = Annotated[str, Body(embed=True, max_length=512)]


def signed_in(session: Annotated[str, Cookie()] = "") -> str:
    try:
        return bytes.fromhex(signer.unsign(session).decode()).decode()
    except BadSignature:
        raise HTTPException(401) from None


User = Annotated[str, Depends(signed_in)]


@app.get("/")
def index() -> FileResponse:
    return FileResponse(ROOT / "examples/page/index.html")


@app.get("/page.js")
def page() -> FileResponse:
    return FileResponse(ROOT / "examples/page/page.js")


@app.get("/channelstream.js")
def client() -> FileResponse:
    return FileResponse(ROOT / "clients/js/channelstream.js")


@app.post("/sign-in")
def sign_in(name: Text, response: Response) -> dict[str, str]:
    cookie = signer.sign(name.encode().hex()).decode()
    response.set_cookie("session", cookie, httponly=True, samesite="strict")
    return {"url": URL}


@app.post("/connection")
async def connection(user: User, since: Text = "") -> dict[str, Any]:
    # `since` is the last position of a page that lost its connection. Everybody may read the chat, so it may resume there.
    made = await server.connect(user, ["chat"], channel_configs=CHAT, since=since)
    return opened(made)


def opened(made: Connection) -> dict[str, Any]:
    """Return the page's initial data: its connection, earlier messages, and the users."""
    chat = made.channels_info.channels["chat"]
    history = [{"uuid": sent.uuid, "user": sent.user, "message": sent.message} for sent in chat.history]
    present = {"channels": {"chat": {"users": list(chat.users)}}}
    return {"conn_id": made.conn_id, "position": made.position, "history": history, "channels_info": present}


@app.post("/say")
async def say(user: User, text: Text) -> dict[str, str]:
    sent = await server.publish(Message(user=user, channel="chat", message={"text": text}))
    return {"uuid": sent.uuid}


def explained(error: Exception) -> str:
    return f"the push server {'cannot be reached' if isinstance(error, Unreachable) else 'refuses this'}: {error}"


@app.exception_handler(ChannelstreamError)
async def not_served(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": explained(error)}, 502)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "5000")))
