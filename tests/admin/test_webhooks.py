"""The page of webhooks: how receivers do, and what was given up, which an admin can have sent again."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.admin_pages import rows
from tests.applications import ADMIN_SECRETS, app_of, launch_apps
from tests.conftest import RunningServer, launch
from tests.engines.sqlite_runs import Runs
from tests.http_client import http
from tests.redis_server import RedisServer
from tests.site import RecordedActs
from tests.waiting import eventually
from tests.webhook_receiver import KEY, SECRET, WebhookReceiver, webhook_receiver

from channelstream.admin.receivers import LETTERS
from channelstream.apps.keys import DEFAULT, make_key
from channelstream.apps.webhooks import Receiver
from channelstream.core.facts import ChannelOccupied, ClientEvent, Fact, MemberAdded
from channelstream.integrations.webhooks.dead_letters import DATA_BYTES, DeadLetters

AGAIN = "/admin/do/send_webhooks_again"
GIVE_UP = "/admin/do/give_up_webhooks"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as running:
        yield running


def options(receiver: WebhookReceiver, urls: str = "") -> dict[str, str]:
    return {
        "CHANNELSTREAM_WEBHOOK_URLS": urls or receiver.url,
        "CHANNELSTREAM_WEBHOOK_SECRET": SECRET,
        "CHANNELSTREAM_WEBHOOK_NETWORKS": "127.0.0.1",
    }


def shown(server: RunningServer, secret: str = "") -> Any:
    auth = ("", secret or server.admin_secret)
    answer = http.get(f"{server.url}/admin/data/webhooks", auth=auth)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send_again(server: RunningServer, *ids: str, secret: str = "") -> int:
    auth, body = ("", secret or server.admin_secret), {"ids": ids}
    answer = http.post(server.url + AGAIN, json=body, auth=auth)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["sent"])


def give_up_refused(server: RunningServer, receiver_id: str) -> int:
    auth, body = ("", server.admin_secret), {"receiver": receiver_id}
    answer = http.post(server.url + GIVE_UP, json=body, auth=auth)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["given_up"])


def give_up(path: Path, *given: tuple[Receiver, Fact]) -> None:
    """Write dead letters into the file of an engine."""

    async def life() -> None:
        engine, _ = await Runs(path).open()
        letters = DeadLetters(engine.time_series, time.time)
        for receiver, fact in given:
            await letters.add(receiver, (fact,), "status 503")
        await engine.close()

    asyncio.run(life())


def test_a_receiver_that_fails_is_shown(receiver: WebhookReceiver) -> None:
    """With what waits for it, since when, and why; the query of its URL, which may have a secret, is not."""
    dead = "http://127.0.0.1:9/dead?token=confidential"
    server = launch(**options(receiver, f"{receiver.url} {dead}"))
    try:
        server.connect("ann", "news")

        def has_settled() -> bool:
            good, bad = shown(server)["receivers"]
            return (good["sent"], good["pending"], bad["failing_since"] is None) == (2, 0, False)

        eventually(has_settled, "one of the two is not called")
        good, bad = shown(server)["receivers"]
        assert (good["receiver"], good["format"], good["pending"]) == (receiver.url, "standard", 0)
        assert good["oldest"] is None
        assert good["last_success"] and good["last_error"] == "" and good["failing_since"] is None
        assert (bad["receiver"], bad["sent"], bad["last_success"]) == ("http://127.0.0.1:9/dead", 0, None)
        assert bad["pending"] >= 1 and bad["failed"] >= 1 and bad["oldest"] <= bad["failing_since"]
        assert bad["last_error"] == "no answer: nothing listens at its address"
        assert "confidential" not in str(shown(server))
    finally:
        server.stop()


def test_what_was_given_up_is_sent_again(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """Once, to its receiver; what was cut, or whose receiver is no more, cannot be."""
    path = tmp_path / "state.db"
    kinds = frozenset(("occupied", "added", "client_event"))
    kept, gone = (
        Receiver(DEFAULT, url, kinds, (KEY,)) for url in (receiver.url, "https://gone.example/?token=x")
    )
    long = ClientEvent(id="c", at_ms=3000, channel="news", event="client-x", data="x" * (DATA_BYTES + 1))
    give_up(
        path,
        (kept, ChannelOccupied(id="a", at_ms=1000, channel="news")),
        (kept, MemberAdded(id="b", at_ms=2000, channel="news", user="ann")),
        (kept, long),
        (gone, ChannelOccupied(id="d", at_ms=4000, channel="news")),
    )
    server = launch("--engine", f"sqlite:///{path}", **options(receiver))
    try:
        letters = shown(server)["letters"]
        assert [(each["type"], each["user"], each["can_be_sent"]) for each in letters] == [
            ("channel.occupied", None, False),
            ("client.event", None, False),
            ("member.added", "ann", True),
            ("channel.occupied", None, True),
        ]
        assert [each["receiver"] for each in letters] == ["", receiver.url, receiver.url, receiver.url]
        assert {each["channel"] for each in letters} == {"news"}
        assert {each["reason"] for each in letters} == {"status 503"}
        assert send_again(server, *(each["id"] for each in letters[:3]), "unknown") == 1
        seen: list[dict[str, Any]] = []

        def is_marked() -> bool:
            found = shown(server)
            seen.extend(found["receivers"])
            return found["letters"][2]["sent_again"] is not None and bool(receiver.events)

        eventually(is_marked, "it is not sent again, or not marked")
        assert [each["id"] for each in receiver.events] == ["b"]
        assert [row for row in seen if row["pending"] == 0 and row["oldest"]] == []
        assert [bool(each["sent_again"]) for each in shown(server)["letters"]] == [False, False, True, False]
        [act] = [each for each in rows(server, "acts") if each["did"] == "sent webhooks again to"]
        assert (act["kind"], act["name"], act["more"]) == ("receiver", receiver.url, "1 event")
    finally:
        server.stop()


def test_an_application_sees_its_own_only(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """Receivers and dead letters; it has none of others sent."""
    path = tmp_path / "state.db"
    of_shop = Receiver("shop", receiver.url, frozenset(("occupied",)), (KEY,))
    of_default = Receiver(DEFAULT, receiver.url, frozenset(("occupied",)), (KEY,))
    give_up(
        path,
        (of_shop, ChannelOccupied(id="s", at_ms=1000, channel=make_key("shop", "shelf"))),
        (of_default, ChannelOccupied(id="d", at_ms=1000, channel="news")),
    )
    own = {
        name.replace("CHANNELSTREAM_", "CHANNELSTREAM_APP_SHOP_"): text
        for name, text in options(receiver).items()
    }
    server = launch_apps("--engine", f"sqlite:///{path}", **options(receiver), **own)
    try:
        shop, blog = (app_of(server, app_id) for app_id in ("shop", "blog"))
        assert [each["channel"] for each in shown(shop)["letters"]] == ["shelf"]
        assert [each["channel"] for each in shown(server)["letters"]] == ["news"]
        assert len(shown(shop)["receivers"]) == len(shown(server)["receivers"]) == 1
        assert shown(blog)["receivers"] == shown(blog)["letters"] == []
        assert send_again(shop, shown(server)["letters"][0]["id"], secret=ADMIN_SECRETS["shop"]) == 0
        assert send_again(shop, shown(shop)["letters"][0]["id"], secret=ADMIN_SECRETS["shop"]) == 1
        eventually(lambda: [each["id"] for each in receiver.events] == ["s"], "it is not sent")
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["memory", "redis"])
def test_what_a_receiver_refuses_is_given_up(
    receiver: WebhookReceiver, engine: str, request: pytest.FixtureRequest
) -> None:
    """At once, whichever node is asked: what waits behind it is sent, and it can be sent again."""
    where = "memory"
    if engine == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        redis.cli("FLUSHALL")
        where = redis.address
    receiver.refuses = frozenset((b'"channel.occupied"',))
    flags = ("--engine", where, "--webhook-events", "channel.occupied member.added")
    servers = [launch(*flags, **options(receiver)) for _ in range(2 if engine == "redis" else 1)]
    try:
        servers[0].connect("ann", "bad", channel_configs={"bad": {"notify_presence": True}})

        def is_refused() -> bool:
            [row] = shown(servers[-1])["receivers"]
            return bool(row["refused"] == 1 and row["pending"] == 2)

        eventually(is_refused, "it is not shown")
        found = shown(servers[-1])
        [row], [event] = found["receivers"], found["refused"]
        assert row["held_up"] is False
        assert event.pop("since") >= row["oldest"]
        assert event == {
            "receiver": receiver.url, "type": "channel.occupied", "channel": "bad", "user": None,
            "reason": "status 400", "behind": 1,
        }  # fmt: skip
        assert accepted_of(receiver) == []
        assert give_up_refused(servers[-1], "unknown") == 0
        assert give_up_refused(servers[-1], row["id"]) == 1
        eventually(lambda: accepted_of(receiver) == ["member.added"], "what is behind it is not sent")
        eventually(lambda: bool(shown(servers[-1])["letters"]), "it is not listed")
        [letter] = shown(servers[-1])["letters"]
        assert (letter["type"], letter["reason"]) == (
            "channel.occupied", "refused, and given up by an admin",
        )  # fmt: skip
        receiver.refuses = frozenset()
        assert send_again(servers[-1], letter["id"]) == 1
        eventually(lambda: accepted_of(receiver) == ["member.added", "channel.occupied"], "it is not sent")
        dids = [each["did"] for each in rows(servers[-1], "acts")]
        assert dids == ["sent webhooks again to", "gave up webhooks that are refused by"]
    finally:
        for server in servers:
            server.stop()


def accepted_of(receiver: WebhookReceiver) -> list[str]:
    """Return the types of the events that were accepted."""
    return [each["type"] for call in list(receiver.calls) if call.status == 200 for each in call.events]


@pytest.mark.slow
def test_a_node_shows_what_another_one_sends(receiver: WebhookReceiver, redis: RedisServer) -> None:
    """Any node can be asked."""
    redis.cli("FLUSHALL")
    servers = [launch("--engine", redis.address, **options(receiver)) for _ in range(2)]
    try:
        servers[0].connect("ann", "news")
        for server in servers:
            eventually(lambda server=server: shown(server)["receivers"][0]["sent"] >= 1, "it is not known")  # type: ignore[misc]
        first, second = (shown(server) for server in servers)
        assert first["sender"] == second["sender"] != ""
        assert first["receivers"][0]["last_success"] == second["receivers"][0]["last_success"]
        assert second["receivers"][0]["pending"] is not None
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ids":"a"}',
        b'{"ids":[1]}',
        b'{"ids":["%s"]}' % (b"x" * 65),
        b'{"ids":[],"more":1}',
        b'{"ids":[%s]}' % b",".join([b'"x"'] * (LETTERS + 1)),
    ],
    ids=lambda body: body[:20],
)
def test_a_body_of_another_form_is_refused(browser: httpx.Client, acts: RecordedActs, body: bytes) -> None:
    answer = browser.post(AGAIN, content=body, auth=("", "open sesame"))
    assert (answer.status_code, acts.recorded) == (400, [])


def test_what_is_sent_again_is_recorded(browser: httpx.Client, acts: RecordedActs) -> None:
    """For each receiver; where nothing is sent, nothing."""
    for ids, count in (["x"], 0), (["a", "x"], 1):
        answer = browser.post(AGAIN, json={"ids": ids}, auth=("", "open sesame"))
        assert answer.json() == {"sent": count}
    assert [(act.did, act.name, act.more) for act in acts.recorded] == [
        ("sent webhooks again to", "https://one.example/", "1 event")
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"receiver":1}', b'{"receiver":"%s"}' % (b"x" * 65)])
def test_what_is_no_receiver_is_refused(browser: httpx.Client, acts: RecordedActs, body: bytes) -> None:
    answer = browser.post(GIVE_UP, content=body, auth=("", "open sesame"))
    assert (answer.status_code, acts.recorded) == (400, [])


def test_what_is_given_up_is_recorded(browser: httpx.Client, acts: RecordedActs) -> None:
    """Where nothing is, nothing is recorded."""
    for receiver_id, count in ("x", 0), ("r", 2):
        answer = browser.post(GIVE_UP, json={"receiver": receiver_id}, auth=("", "open sesame"))
        assert answer.json() == {"given_up": count}
    assert [(act.did, act.name, act.more) for act in acts.recorded] == [
        ("gave up webhooks that are refused by", "https://one.example/", "2 events")
    ]
