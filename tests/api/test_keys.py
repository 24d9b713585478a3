"""Keys of a running server: rights, validity, rates, and a change while it serves."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import ADMIN_SECRET, RunningServer
from tests.http_client import http
from tests.nursery import nursery
from tests.processes import children
from tests.pusher_calls import call as pusher_call
from tests.redis_server import RedisServer
from tests.signing import signature
from tests.waiting import eventually

from channelstream.api.endpoints import ENDPOINTS
from channelstream.apps.principal import Right
from channelstream.errors import BadSignature

BAD = BadSignature().body
SECRETS = {name: f"the secret of {name}".ljust(40, ".") for name in ("web", "cron", "reader", "shop")}


def key(key_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": key_id, "secret": SECRETS.get(key_id, "x" * 40)} | fields


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., str]:
    """Write the file of keys as a whole, and return its path."""
    path = tmp_path / "keys.json"

    def write(*keys: dict[str, Any], text: str = "") -> str:
        other = tmp_path / "other.json"
        other.write_text(text or json.dumps({"keys": keys}))
        other.chmod(0o600)
        other.replace(path)
        return str(path)

    return write


def ask(
    server: Any, key_id: str, method: str = "POST", path: str = "/info", body: bytes = b"{}", prefix: str = ""
) -> httpx.Response:
    headers = signature(SECRETS.get(key_id, "x" * 40), method, path, body, key_id)
    return http.request(method, server.url + prefix + path, content=body, headers=headers)


def test_a_key_may_do_what_its_rights_say(start_server: Any, keep: Any) -> None:
    """Each call takes one right; a wrong signature is refused before, and says nothing about rights."""
    server = start_server("--keys-file", keep(*(key(f"key-{right}", rights=[right]) for right in Right)))
    for row in ENDPOINTS:
        for right in Right if row.right is not None else ():
            answer = ask(server, f"key-{right}", row.methods[0], row.path)
            assert (answer.status_code == 403) == (row.right is not right), (row.path, right, answer.text)
    headers = signature("y" * 40, "POST", "/message", b"{}", "key-info")
    assert http.post(server.url + "/message", content=b"{}", headers=headers).json() == BAD


def test_the_admin_pages_take_the_right_admin(start_server: Any, keep: Any) -> None:
    """A key without it is no admin."""
    server = start_server("--keys-file", keep(key("web", rights=["admin"]), key("reader", rights=["info"])))
    assert [ask(server, each, "GET", "/admin/admin.json", b"").status_code for each in ("web", "reader")] == [
        200,
        401,
    ]


@pytest.mark.parametrize(
    "refused",
    [
        key("web", not_after="2020-01-01T00:00:00Z"),
        key("web", not_before="2100-01-01T00:00:00Z"),
        key("web", secret="short"),
        key("web", revoked="2020-01-01T00:00:00Z"),
        key("another"),
    ],
)
def test_a_key_that_is_not_accepted_is_refused_like_an_unknown_one(
    start_server: Any, keep: Any, refused: Any
) -> None:
    """Expired, not valid yet, weak, revoked or unknown: one answer, signed or as a bearer key."""
    server = start_server("--keys-file", keep(refused, key("cron")))
    secret = refused["secret"]
    signed = signature(secret, "POST", "/info", b"{}", "web")
    for headers in (signed, {"authorization": f"Bearer web.{secret}"}):
        answer = http.post(server.url + "/info", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()) == (401, BAD)
    assert ask(server, "cron").status_code == 200
    bearer = {"authorization": f"Bearer cron.{SECRETS['cron']}"}
    assert http.post(server.url + "/info", headers=bearer).status_code == 200


def test_a_key_belongs_to_one_application(start_server: Any, keep: Any) -> None:
    """Without a path of an application it names its own; below the path of another one it is unknown."""
    path = keep(key("shop", app="shop"), key("web"))
    server = start_server("--keys-file", path, CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough")
    body = json.dumps({"wares": {"notify_presence": True}}).encode()
    assert ask(server, "shop", path="/channel_config", body=body).status_code == 200
    for key_id, prefix, channels in (
        ("shop", "", ["wares"]),
        ("shop", "/app/shop", ["wares"]),
        ("web", "", []),
    ):
        assert list(ask(server, key_id, prefix=prefix).json()["channels"]) == channels
    assert ask(server, "web", prefix="/app/shop").json() == BAD
    bearer = {"authorization": f"Bearer web.{SECRETS['web']}"}
    answers = [http.post(server.url + path, headers=bearer) for path in ("/info", "/app/shop/info")]
    assert [answer.status_code for answer in answers] == [200, 401]


def test_a_secret_rotates_without_a_stop(start_server: Any, keep: Any) -> None:
    """A new key, then both, then the new one alone: SIGHUP reads the file, and a stream stays open."""
    server = start_server("--keys-file", keep(key("web")))

    def change(*keys: dict[str, Any]) -> None:
        keep(*keys)
        os.kill(server.process.pid, signal.SIGHUP)

    assert [ask(server, each).status_code for each in ("web", "cron")] == [200, 401]
    change(key("web"), key("cron"))
    eventually(lambda: ask(server, "cron").status_code == 200, "the new key is unknown")
    assert ask(server, "web").status_code == 200
    change(key("cron"))
    eventually(lambda: ask(server, "web").status_code == 401, "the old key is accepted")
    assert ask(server, "cron").status_code == 200
    assert server.post("/info", {})["channels"] == {}


def test_a_broken_file_changes_nothing(start_server: Any, keep: Any) -> None:
    """The log says so, without a secret."""
    server = start_server("--keys-file", keep(key("web")))
    keep(text=json.dumps({"keys": [key("web") | {"rigths": []}]}))
    os.kill(server.process.pid, signal.SIGHUP)
    lines: list[str] = []

    def is_reported() -> bool:
        lines.append(server.process.line(1.0))
        return "the keys stay as they were" in lines[-1]

    eventually(is_reported, "the log says nothing")
    assert ask(server, "web").status_code == 200
    _, log = server.stop()
    assert "unknown field `rigths`" in "".join(lines)
    assert SECRETS["web"] not in "".join(lines) + log


def test_a_file_that_cannot_be_used_prevents_the_start(tmp_path: Path, keep: Any) -> None:
    """As any other option that is wrong."""
    ended = nursery().run(["-p", "0", "--keys-file", keep(text="no JSON")], {})
    assert ended.returncode == 2
    assert "is not a file of keys" in ended.stderr


def test_all_workers_read_the_file(redis: RedisServer, start_server: Any, keep: Any) -> None:
    """The signal goes to the parent."""
    server = start_server("--engine", redis.address, "--workers", "2", "--keys-file", keep(key("web")))
    pids = children(server.process.pid)
    keep(key("cron"))
    os.kill(server.process.pid, signal.SIGHUP)
    # Each call has a connection of its own, which any of the workers accepts.
    eventually(
        lambda: {ask(server, "web").status_code for _ in range(20)} == {401}, "a worker accepts the old key"
    )
    assert {ask(server, "cron").status_code for _ in range(20)} == {200}
    assert children(server.process.pid) == pids


MESSAGE = {"user": "ann", "channel": "room", "message": "m"}
SLOW = "0.01"
"""A second: one at once, and the next one comes later than any test ends."""


def publish(server: RunningServer, key_id: str, count: int = 1) -> httpx.Response:
    return ask(server, key_id, path="/message", body=json.dumps([MESSAGE] * count).encode())


def limited(server: RunningServer, limit: str, app_id: str = "default") -> float:
    """Return what was refused at a limit, as the metrics say."""
    text = http.get(server.url + "/metrics", auth=("admin", ADMIN_SECRET)).text
    start = f'channelstream_limited_total{{application="{app_id}",limit="{limit}",worker="0"}} '
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def assert_limited(answer: httpx.Response, text: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (429, text)
    assert 50 < int(answer.headers["retry-after"]) <= 10_000


def test_a_key_makes_only_so_many_calls(start_server: Any, keep: Any) -> None:
    """Other keys, and clients who show none, make their own; a wrong signature takes nothing from a key."""
    path = keep(key("web"), key("cron"), key("reader", max_call_rate=0))
    server = start_server("--keys-file", path, CHANNELSTREAM_MAX_KEY_CALL_RATE=SLOW)
    headers = signature("y" * 40, "POST", "/info", b"{}", "web")
    assert http.post(server.url + "/info", content=b"{}", headers=headers).status_code == 401
    text = "This key may make 0.01 calls in a second; send this one later."
    for key_id in ("web", "cron"):
        assert ask(server, key_id).status_code == 200
        assert_limited(ask(server, key_id), text)
    assert [ask(server, "reader").status_code for _ in range(3)] == [200] * 3
    assert server.request("POST", "/info", {}).status_code == 200
    assert_limited(server.request("POST", "/info", {}), text)
    strangers = [http.post(server.url + "/disconnect", json={"conn_id": "unknown"}) for _ in range(3)]
    assert 429 not in {answer.status_code for answer in strangers}
    assert limited(server, "key_calls") == 3


def test_a_key_publishes_only_so_many_messages(start_server: Any, keep: Any) -> None:
    """A list of any length after a pause; nothing is sent of one that is refused. A key may have a rate of its own."""
    path = keep(key("web", max_message_rate=0.1), key("cron"))
    server = start_server("--keys-file", path, CHANNELSTREAM_MAX_KEY_MESSAGE_RATE=SLOW)
    assert publish(server, "web", 150).status_code == 200
    assert_limited(
        publish(server, "web", 2), "This key may publish 0.1 messages in a second; send these later."
    )
    assert publish(server, "cron").status_code == 200
    edit = json.dumps([MESSAGE | {"uuid": "00000000-0000-4000-8000-000000000001"}]).encode()
    text = "This key may publish 0.01 messages in a second; send these later."
    for method in ("PATCH", "DELETE"):
        assert_limited(ask(server, "cron", method, "/message", edit), text)
    assert ask(server, "cron").status_code == 200
    assert limited(server, "key_messages") == 4


def test_the_key_of_pusher_has_the_rates_of_its_application(start_server: Any) -> None:
    """Its calls take nothing from other keys."""
    server = start_server(CHANNELSTREAM_MAX_KEY_CALL_RATE=SLOW)
    event = {"name": "created", "channels": ["a", "b"], "data": ""}
    assert pusher_call(server, "POST", "/events", event).status_code == 200
    answer = pusher_call(server, "GET", "/channels")
    assert_limited(answer, "This key may make 0.01 calls in a second; send this one later.")
    assert server.request("POST", "/info", {}).status_code == 200
    assert limited(server, "key_calls") == 1


def test_the_key_of_pusher_publishes_only_so_many_messages(start_server: Any) -> None:
    """By either call that sends events: one for each channel."""
    server = start_server(CHANNELSTREAM_MAX_KEY_MESSAGE_RATE=SLOW)
    event = {"name": "created", "data": ""}
    assert pusher_call(server, "POST", "/events", event | {"channels": ["a", "b"]}).status_code == 200
    for path, body in (
        ("/events", event | {"channel": "a"}),
        ("/batch_events", {"batch": [event | {"channel": "a"}] * 2}),
    ):
        answer = pusher_call(server, "POST", path, body)
        assert_limited(answer, "This key may publish 0.01 messages in a second; send these later.")
    assert limited(server, "key_messages") == 3


def test_a_key_has_the_rate_of_its_application(start_server: Any, keep: Any) -> None:
    """Whichever path it calls; the others have none."""
    server = start_server(
        "--keys-file",
        keep(key("shop", app="shop"), key("web")),
        CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough",
        CHANNELSTREAM_APP_SHOP_MAX_KEY_CALL_RATE=SLOW,
    )
    assert [ask(server, "shop", prefix=prefix).status_code for prefix in ("", "/app/shop")] == [200, 429]
    assert [ask(server, "web").status_code for _ in range(2)] == [200, 200]
    assert (limited(server, "key_calls", "shop"), limited(server, "key_calls")) == (1, 0)


def test_rates_of_keys_change_with_the_file(start_server: Any, keep: Any) -> None:
    """What a key has used stays used as long as its rate is the same."""
    slow = key("web", max_call_rate=0.01)
    server = start_server("--keys-file", keep(slow, key("cron")))

    def change(*keys: dict[str, Any]) -> None:
        keep(*keys)
        os.kill(server.process.pid, signal.SIGHUP)

    assert [ask(server, "web").status_code for _ in range(2)] == [200, 429]
    change(slow, key("reader"))
    eventually(lambda: ask(server, "reader").status_code == 200, "the new key is unknown")
    assert ask(server, "web").status_code == 429
    change(key("web"))
    eventually(lambda: ask(server, "web").status_code == 200, "the old rate holds")
    assert [ask(server, "web").status_code for _ in range(2)] == [200, 200]
