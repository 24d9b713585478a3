"""A chat with tokens, in FastAPI: the pages enter rooms and publish by themselves, as far as their tokens grant it."""

import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import jwt
import uvicorn
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from itsdangerous import BadSignature, Signer

from channelstream_client import AsyncChannelstream, ChannelSettings, ChannelstreamError, Message

HERE = Path(__file__).parent
URL = os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000")
SECRET = os.environ["CHANNELSTREAM_SECRET"]
LIFE_S = int(os.environ.get("TOKEN_LIFE_S", "600"))
ROOM = ChannelSettings(notify_presence=True, store_history=True, history_size=20)
ROOMS = {"room.garden": ROOM, "room.kitchen": ROOM}
FILES = {"": "index.html", "page.js": "page.js", "channelstream.js": "../../clients/js/channelstream.js"}
GRANTS = {right: list(ROOMS) for right in ("subscribe", "publish", "history", "presence")}

app = FastAPI()
server = AsyncChannelstream(URL, SECRET)
signer = Signer(secrets.token_hex())
Text = Annotated[str, Body(embed=True, max_length=512)]


def signed_in(session: Annotated[str, Cookie()] = "") -> str:
    try:
        return bytes.fromhex(signer.unsign(session).decode()).decode()
    except BadSignature:
        raise HTTPException(401) from None


User = Annotated[str, Depends(signed_in)]


@app.get("/")
@app.get("/{name}")
def file(name: str = "") -> FileResponse:
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(HERE / FILES[name])


@app.post("/sign-in")
def sign_in(name: Text, response: Response) -> dict[str, str]:
    cookie = signer.sign(name.encode().hex()).decode()
    response.set_cookie("session", cookie, httponly=True, samesite="strict")
    return {"url": URL}


@app.post("/token", response_class=PlainTextResponse)
async def token(user: User) -> str:
    # With each token, since the push server forgets the settings of a room that nobody is in for long.
    await server.channel_config(ROOMS)
    now = time.time()
    return jwt.encode({"sub": user, "iat": now, "exp": now + LIFE_S, **GRANTS}, SECRET, "HS256")


@app.post("/whisper")
async def whisper(user: User, to: Text, text: Text) -> dict[str, str]:
    """Send a private message, which no token can grant: the application decides who may write to whom."""
    sent = await server.publish(Message(user=user, pm_users=[user, to], message={"text": text}))
    return {"uuid": sent.uuid}


@app.exception_handler(ChannelstreamError)
async def not_served(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"the push server did not take this: {error}"}, 502)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "5000")))
