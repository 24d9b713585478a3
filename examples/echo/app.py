"""A small chat for Laravel Echo, in FastAPI: it lets users into the channel, and sends their messages by Pusher's SDK."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from fastapi import Body, Cookie, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from itsdangerous import BadSignature, Signer
from pusher import Pusher
from pusher.errors import PusherError
from requests import RequestException

HERE = Path(__file__).parent
ADDRESS = urlsplit(os.environ.get("CHANNELSTREAM_URL", "http://127.0.0.1:8000"))
HOST, TLS = ADDRESS.hostname, ADDRESS.scheme == "https"
PORT = ADDRESS.port or (443 if TLS else 80)
KEY = os.environ["PUSHER_KEY"]
CHANNEL = "presence-chat"
FILES = {
    "": "index.html",
    "page.js": "page.js",
    "pusher.js": "node_modules/pusher-js/dist/web/pusher.js",
    "echo.js": "node_modules/laravel-echo/dist/echo.js",
}

app = FastAPI()
# Host and port are all that differs from an application that uses Pusher itself.
server = Pusher(os.environ["PUSHER_APP_ID"], KEY, os.environ["PUSHER_SECRET"], host=HOST, port=PORT, ssl=TLS)
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
def sign_in(name: Text, response: Response) -> dict[str, Any]:
    cookie = signer.sign(name.encode().hex()).decode()
    response.set_cookie("session", cookie, httponly=True, samesite="strict")
    return {"key": KEY, "host": HOST, "port": PORT, "tls": TLS}


@app.post("/auth")
async def auth(user: User, request: Request) -> dict[str, str]:
    """Let the page's connection into the chat, under the name of its user: Echo asks for it."""
    asked = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
    if asked.get("channel_name") != CHANNEL:
        raise HTTPException(403)
    member = {"user_id": user, "user_info": {"id": user, "name": user}}
    signed: dict[str, str] = server.authenticate(CHANNEL, asked.get("socket_id", ""), member)
    return signed


@app.post("/say")
def say(user: User, text: Text, x_socket_id: Annotated[str, Header()] = "") -> dict[str, str]:
    """Send a message to all who are in the chat but the page that has sent it, which shows it by itself."""
    server.trigger(CHANNEL, "said", {"user": user, "text": text}, x_socket_id or None)
    return {}


@app.exception_handler(PusherError)
@app.exception_handler(RequestException)
async def not_served(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"the push server did not take this: {error}"}, 502)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "5000")))
