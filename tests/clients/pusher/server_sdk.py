"""Calls a server as an application with Pusher's Python SDK does, and prints what it is answered, by step."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pusher

port, mark, left_out, master_key = sys.argv[1:]
options: dict[str, Any] = {
    "app_id": "4711",
    "key": "kit-key",
    "host": "127.0.0.1",
    "port": int(port),
    "ssl": False,
}
client = pusher.Pusher(secret="kit-secret", encryption_master_key_base64=master_key, **options)
stranger = pusher.Pusher(secret="wrong", **options)
one, other, presence = f"{mark}-a", f"{mark}-b", f"presence-{mark}"


def item(name: str, channel: str, data: Any, **more: str) -> dict[str, Any]:
    return {"name": name, "channel": channel, "data": data, **more}


STEPS: dict[str, Callable[[], Any]] = {
    "object": lambda: client.trigger([one, other], "created", {"id": 7}),
    "text": lambda: client.trigger(one, "said", "hello"),
    "left_out": lambda: client.trigger(one, "secret", {}, left_out),
    "batch": lambda: client.trigger_batch(
        [item("first", one, {"n": 1}), item("second", one, {"n": 2}, socket_id=left_out)]
    ),
    "encrypted": lambda: client.trigger(f"private-encrypted-{mark}", "hidden", {"id": 7}),
    "channels": lambda: client.channels_info(f"{mark}-", ["subscription_count"]),
    "presence": lambda: client.channels_info("presence-", ["user_count"]),
    "channel": lambda: client.channel_info(presence, ["user_count", "subscription_count"]),
    "users": lambda: client.users_info(presence),
    "too_long": lambda: client.trigger(one, "long", "x" * 10_241),
    "too_many": lambda: client.trigger_batch([item("many", one, {})] * 11),
    "attribute": lambda: client.channel_info(one, ["user_count"]),
    "signature": lambda: stranger.trigger(one, "created", {}),
}


def step(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except pusher.errors.PusherError as error:
        return type(error).__name__


print(json.dumps({name: step(call) for name, call in STEPS.items()}))
