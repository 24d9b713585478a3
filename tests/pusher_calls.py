"""Calls of Pusher's REST API, signed as its SDKs sign them."""

import hmac
import json
import time
from hashlib import md5
from typing import Any
from urllib.parse import quote

import httpx
from tests.http_client import http

KIT = {"APP_ID": "4711", "KEY": "kit-key", "SECRET": "kit-secret"}
"""What the default application of each server of the tests has for the protocol, by the ends of the options' names."""
SHOP = {"APP_ID": "12", "KEY": "shop-key", "SECRET": "shop-secret"}
"""For a further application, of the tests that start one."""


def signed(
    method: str, path: str, query: dict[str, str], body: bytes, app: dict[str, str] = KIT, ahead_s: int = 0
) -> str:
    """Return the query of a signed call."""
    fields = {
        "auth_key": app["KEY"],
        "auth_timestamp": str(int(time.time()) + ahead_s),
        "auth_version": "1.0",
        **({"body_md5": md5(body).hexdigest()} if body else {}),
        **query,
    }
    text = f"{method}\n{path}\n" + "&".join(f"{name}={fields[name]}" for name in sorted(fields))
    mac = hmac.digest(app["SECRET"].encode(), text.encode(), "sha256").hex()
    return "&".join(f"{name}={quote(value)}" for name, value in [*fields.items(), ("auth_signature", mac)])


def call(
    server: Any,
    method: str,
    path: str,
    body: Any = None,
    app: dict[str, str] = KIT,
    ahead_s: int = 0,
    **query: str,
) -> httpx.Response:
    """Make a call of an application; its path is below `/apps/ID`, and its body JSON or bytes."""
    path = f"/apps/{app['APP_ID']}{path}"
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    target = f"{quote(path)}?{signed(method, path, query, content, app, ahead_s)}"
    return http.request(method, server.url + target, content=content)


def done(server: Any, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """Make a call that must succeed, and return its answer."""
    answer = call(server, method, path, body, **more)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return answer.json()


def trigger(server: Any, channel: str, name: str = "hi", data: str = "{}", **more: str) -> None:
    """Send an event to the subscribers of a channel."""
    done(server, "POST", "/events", {"name": name, "channel": channel, "data": data, **more})
