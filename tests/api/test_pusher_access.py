"""Who may call Pusher's REST API: addresses, applications and signatures, on real servers."""

import json
from typing import Any

import pytest
from tests.applications import app_of, launch_apps
from tests.http_client import http
from tests.pusher_calls import KIT, SHOP, call, done, signed
from tests.waiting import PATIENCE_S
from websockets.sync.client import connect

from channelstream.auth.pusher import SIGNED_WITH
from channelstream.errors import BadSignature

EVENT = {"name": "created", "channel": "pac", "data": "{}"}
BODY = b'{"name": "created", "channel": "pac", "data": "{}"}'


def test_a_fault_of_the_signature_has_one_text(server: Any) -> None:
    """Whatever it is, and whatever the body is."""
    good = signed("POST", "/apps/4711/events", {}, BODY)
    faulty = [
        ("", BODY),
        (good.replace("kit-key", "other"), BODY),
        (good.replace("auth_signature=", "auth_signature=0"), BODY),
        (good, BODY + b" "),
        (good, b""),
        (good, b"{"),
        (signed("GET", "/apps/4711/events", {}, BODY), BODY),
        (signed("POST", "/apps/4711/batch_events", {}, BODY), BODY),
        (signed("POST", "/apps/4711/events", {}, b""), BODY),
        (signed("POST", "/apps/4711/events", {}, BODY, ahead_s=-660), BODY),
        (signed("POST", "/apps/4711/events", {}, BODY, ahead_s=660), BODY),
    ]
    for query, body in faulty:
        answer = http.post(f"{server.url}/apps/4711/events?{query}", content=body)
        assert (answer.status_code, answer.json()) == (401, BadSignature(SIGNED_WITH).body)
    assert http.post(f"{server.url}/apps/4711/events?{good}", content=BODY).status_code == 200


@pytest.mark.parametrize("app_id", ["4712", "4711x", "default", "04711"])
def test_an_unknown_application_is_not_found(server: Any, app_id: str) -> None:
    """Before the signature is looked at."""
    answer = call(server, "POST", "/events", EVENT, app=KIT | {"APP_ID": app_id})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert http.post(f"{server.url}/apps/{app_id}/events").status_code == 404


def test_a_foreign_address_is_refused_first(start_server: Any) -> None:
    """403, whether the application exists or not."""
    server = start_server("--allow-posting-from", "192.0.2.1")
    for app in (KIT, SHOP):
        answer = call(server, "POST", "/events", EVENT, app=app)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_nobody_calls_a_server_without_the_options(start_server: Any) -> None:
    """It serves no application of Pusher."""
    none = {f"CHANNELSTREAM_PUSHER_{name}": "" for name in KIT}
    server = start_server(**none)
    assert call(server, "POST", "/events", EVENT).status_code == 404
    assert call(server, "GET", "/channels").status_code == 404


def test_an_application_reads_nothing_of_another(request: pytest.FixtureRequest) -> None:
    """Below one path, found by the id: neither secrets, nor channels, nor sockets of another one."""
    server = launch_apps()
    request.addfinalizer(server.stop)
    shop = app_of(server, "shop")
    for app, channel in ((server, "pusher/pac-kit"), (shop, "pusher/pac-shop")):
        app.connect("ann", "pusher/pac", channel)
    assert done(server, "GET", "/channels")["channels"].keys() == {"pac", "pac-kit"}
    assert done(server, "GET", "/channels", app=SHOP)["channels"].keys() == {"pac", "pac-shop"}
    assert call(server, "GET", "/channels", app=KIT | {"APP_ID": "12"}).status_code == 401
    assert call(server, "GET", "/channels", app=SHOP | {"APP_ID": "4711"}).status_code == 401
    done(server, "POST", "/events", EVENT | {"channel": "pac"}, app=SHOP)
    counts = {"subscription_count": 1}
    for app in (KIT, SHOP):
        assert done(server, "POST", "/events", EVENT | {"info": "subscription_count"}, app=app) == {
            "channels": {"pac": counts}
        }
    assert call(shop, "GET", "/channels", app=SHOP).status_code == 404


def test_a_prefix_of_a_proxy_may_be_signed(start_server: Any) -> None:
    """Whether the proxy leaves it in the path or not."""
    server = start_server("--trusted-proxies", "127.0.0.1")
    for signed_path in ("/apps/4711/events", "/push/apps/4711/events"):
        for prefix in ("", "/push"):
            query = signed("POST", signed_path, {}, BODY)
            target = f"{server.url}{prefix}/apps/4711/events?{query}"
            assert http.post(target, content=BODY, headers={"x-script-name": "/push"}).status_code == 200
            assert (http.post(target, content=BODY).status_code == 200) is (
                signed_path + prefix == "/apps/4711/events"
            )


def test_messages_in_a_second_count(start_server: Any) -> None:
    """Those of this API with all others: 429, and then nothing is sent."""
    server = start_server("--max-message-rate", "0.001")
    answers = [call(server, "POST", "/events", EVENT | {"channels": ["a", "b"]}) for _ in range(2)]
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "too_many_requests")
    assert int(answers[-1].headers["retry-after"]) > 0


def test_the_paths_may_have_a_prefix(start_server: Any) -> None:
    """Those of calls and of clients, with it and without it; other paths have none."""
    server = start_server("--pusher-path-prefix", "/push/er")
    for received in ("/push/er/apps/4711/events", "/apps/4711/events"):
        for signed_path in ("/push/er/apps/4711/events", "/apps/4711/events"):
            query = signed("POST", signed_path, {}, BODY)
            assert http.post(f"{server.url}{received}?{query}", content=BODY).status_code == 200
    for prefix in ("/push/er", ""):
        with connect(f"{server.ws_url}{prefix}/app/kit-key?protocol=7") as stream:
            assert json.loads(stream.recv(PATIENCE_S))["event"] == "pusher:connection_established"
    query = signed("POST", "/push/apps/4711/events", {}, BODY)
    assert http.post(f"{server.url}/push/apps/4711/events?{query}", content=BODY).status_code == 404
    assert http.post(f"{server.url}/push/er/message").status_code == 404


def test_no_log_has_a_secret_or_a_signature(start_server: Any) -> None:
    """With all that is logged of accepted and refused calls."""
    server = start_server("--debug", "true")
    mark = f"pusher-log-{KIT['SECRET']}"
    calls = [
        call(server, "GET", "/channels", app=KIT),
        call(server, "POST", "/events", EVENT | {"data": mark}),
    ]
    calls += [call(server, "GET", "/channels", app=KIT | {"SECRET": mark}), call(server, "GET", "/nothing")]
    assert [answer.status_code for answer in calls] == [200, 200, 401, 404]
    _, log = server.stop()
    assert "/apps/4711/channels" in log
    signatures = [answer.request.url.params["auth_signature"] for answer in calls]
    assert [text for text in (KIT["SECRET"], mark, *signatures) if text in log] == []
    assert [answer.text for answer in calls if KIT["SECRET"] in answer.text] == []


@pytest.mark.parametrize("prefix", ["", "chat/room/"])
def test_channels_may_have_another_prefix(start_server: Any, prefix: str) -> None:
    """Or none: then they are those of native programs, of which the valid names are listed."""
    server = start_server("--pusher-channel-prefix", prefix)
    server.connect("ann", f"{prefix}pac", "pusher/pac", "no name of pusher")
    assert done(server, "GET", "/channels") == {"channels": {"pac": {}}}
    info = EVENT | {"info": "subscription_count"}
    assert done(server, "POST", "/events", info) == {"channels": {"pac": {"subscription_count": 1}}}
    with connect(f"{server.ws_url}/app/kit-key?protocol=7") as stream:
        stream.recv(PATIENCE_S)
        stream.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": "pac"}}))
        assert json.loads(stream.recv(PATIENCE_S))["event"] == "pusher_internal:subscription_succeeded"
        server.post("/message", {"user": "ann", "channel": f"{prefix}pac", "message": 1})
        frame = {"event": "message", "channel": "pac", "data": "1"}
        assert json.loads(stream.recv(PATIENCE_S)) == frame
