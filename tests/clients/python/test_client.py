"""The Python client's calls against a real server, blocking and awaited."""

import asyncio
import inspect
import re
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import StartServer

from channelstream.api.endpoints import ENDPOINTS
from channelstream_client import (
    AsyncChannelstream,
    BadAnswer,
    BadSignature,
    Change,
    Channel,
    Channels,
    ChannelSettings,
    Channelstream,
    Connection,
    Info,
    Invalid,
    Message,
    NotFound,
    Retries,
    SentMessage,
    StateChange,
    Subscribed,
    Unreachable,
    Unsubscribed,
    User,
    UserState,
    calls,
)
from channelstream_client.exchange import Answer, result_of
from channelstream_client.reach import tls_context
from channelstream_client.testing.port import HeldPort

ONCE = Retries(attempts=1)
METHODS = [name for name, plan in vars(calls).items() if inspect.isgeneratorfunction(plan) and name[0] != "_"]
README = Path(__file__).parents[3] / "clients/python/README.md"
Do = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
def do(request: pytest.FixtureRequest, server: Any) -> Do:
    """Call a method of either twin by its name."""

    def blocking(method: str, *args: Any, **kwargs: Any) -> Any:
        with Channelstream(server.url, server.secret) as client:
            return getattr(client, method)(*args, **kwargs)

    async def awaited(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncChannelstream(server.url, server.secret) as client:
            return await getattr(client, method)(*args, **kwargs)

    if request.param == "blocking":
        return blocking
    return lambda *args, **kwargs: asyncio.run(awaited(*args, **kwargs))


@pytest.mark.parametrize("method", METHODS)
def test_twins_are_alike(method: str) -> None:
    """Both clients have every call, with the same parameters and the same words."""
    blocking, awaited = getattr(Channelstream, method), getattr(AsyncChannelstream, method)
    assert inspect.signature(blocking) == inspect.signature(awaited)
    assert blocking.__doc__ == awaited.__doc__
    assert inspect.iscoroutinefunction(awaited)


def test_every_call_of_the_api_has_a_method() -> None:
    """Four of them are of `/message`."""
    of_messages = {"publish", "publish_many", "edit", "delete"}
    paths = {f"/{name}" for name in METHODS if name not in of_messages} | {"/message"}
    assert paths == {endpoint.path for endpoint in ENDPOINTS}


@pytest.mark.parametrize("method", METHODS)
def test_the_readme_names_the_arguments_of_every_call(method: str) -> None:
    """In their order, those without a name of their own first, and the type of the result."""
    looks = inspect.signature(getattr(Channelstream, method))
    own = [each for each in looks.parameters.values() if each.name != "self"]
    by_name = [each.name for each in own if each.kind is each.KEYWORD_ONLY]
    in_order = [each.name for each in own if each.kind is not each.KEYWORD_ONLY]
    (row,) = re.findall(
        rf"^\| `{method}` \|(.*)\|(.*)\| `(.+?)`.* \|$", README.read_text("utf-8"), re.MULTILINE
    )
    assert [re.findall("`(.+?)`", cell) for cell in row[:2]] == [in_order, by_name]
    assert row[2] == re.sub(r"\w+\.", "", inspect.formatannotation(looks.return_annotation))


UNNAMED = {
    Channel: {"long_name"},  # Null; older programs read it.
    SentMessage: {
        "type",
        "catchup",
        "position",
    },  # A history has events, whose place and kind say nothing here.
    Change: {"pm_users", "exclude_users", "message"},  # As in the call.
}
"""Keys of answers that results do not have."""


def assert_named(kind: type, answer: dict[str, Any]) -> None:
    """Check that a result has each key of an answer."""
    assert answer.keys() - {each.name for each in fields(kind)} <= UNNAMED.get(kind, set())


def test_results_have_what_answers_have(start_server: StartServer) -> None:
    """Also what only long lists, and messages with a trace context, have."""
    server = start_server(CHANNELSTREAM_INFO_USERS_MAX="1")
    server.post("/channel_config", {"a": {"store_history": True}})
    details = {"include_connections": True}
    for user in ("ann", "bob"):
        opened = server.post("/connect", {"username": user, "channels": ["a"], "info": details})
    conn_id = opened["conn_id"]
    joined = server.post("/subscribe", {"conn_id": conn_id, "channels": ["b"]})
    left = server.post("/unsubscribe", {"conn_id": conn_id, "channels": ["b"]})
    message = {"user": "ann", "channel": "a", "message": 1, "include_traceparent": True}
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    sent = server.request("POST", "/message", message, headers=trace).json()
    state = server.post("/user_state", {"user": "ann", "user_state": {"a": 1}})
    described = server.post("/info", {"info": details})
    channel = described["channels"]["a"]
    assert {"users_cut", "connections_cut"} <= channel.keys()
    assert "traceparent" in channel["history"][0]
    for kind, answer in (
        (Connection, opened),
        (Subscribed, joined),
        (Unsubscribed, left),
        (Channels, described),
        (Channels, opened["channels_info"]),
        (Channel, channel),
        (ChannelSettings, channel["settings"]),
        (User, described["users"][0]),
        (SentMessage, channel["history"][0]),
        (SentMessage, sent),
        (Change, server.request("PATCH", "/message", {"uuid": sent["uuid"], "channel": "a"}).json()),
        (Change, server.request("DELETE", "/message", {"uuid": sent["uuid"], "channel": "a"}).json()),
        (UserState, state),
        (StateChange, state["changed_state"][0]),
    ):
        assert_named(kind, answer)


def test_a_long_list_of_users_is_read_in_pages(start_server: StartServer) -> None:
    """Each says whether another one follows."""
    server = start_server(CHANNELSTREAM_INFO_USERS_MAX="2")
    with Channelstream(server.url, server.secret) as client:
        for user in ("ann", "bob", "eve"):
            client.connect(user, ["a"])
        first = client.info(Info(channels=["a"])).channels["a"]
        last = client.info(Info(channels=["a"], users_after=first.users[-1])).channels["a"]
    assert [(page.users, page.users_cut) for page in (first, last)] == [
        (["ann", "bob"], True),
        (["eve"], False),
    ]


def test_connection_lives_from_connect_to_disconnect(do: Do) -> None:
    """A connection is registered, subscribed, unsubscribed, shown, and ended."""
    made = do("connect", "py-ann", ["py-a"], user_state={"color": "blue"}, state_public_keys=["color"])
    assert made.username == "py-ann"
    assert made.public_state == {"color": "blue"}
    assert made.position
    assert do("subscribe", made.conn_id, ["py-b"]).subscribed_to == ["py-b"]
    assert do("unsubscribe", made.conn_id, ["py-a"]).channels == ["py-b"]
    assert do("info", Info(channels=["py-b"])).channels["py-b"].users == ["py-ann"]
    assert do("disconnect", made.conn_id) is True
    assert do("disconnect", made.conn_id) is False


def test_message_is_sent_edited_and_deleted(do: Do) -> None:
    """A message is in the history until it is deleted, in its last edited form."""
    do("channel_config", {"py-history": ChannelSettings(store_history=True)})
    sent = do("publish", Message(user="ann", channel="py-history", message={"text": "one"}))
    assert do("edit", sent.uuid, channel="py-history", message={"text": "two"}).found
    (kept,) = do("info", Info(channels=["py-history"])).channels["py-history"].history
    assert kept.message == {"text": "two"}
    assert kept.timestamp == sent.timestamp
    assert kept.edited is not None and kept.edited.tzinfo is not None
    assert do("delete", sent.uuid, channel="py-history").found
    assert do("info", Info(channels=["py-history"])).channels["py-history"].history == []


def test_message_sent_twice_is_kept_once(do: Do) -> None:
    """The same message again, as after a lost answer, changes nothing."""
    message = Message(user="ann", channel=f"py-{id(do)}", message={})
    do("channel_config", {message.channel: ChannelSettings(store_history=True)})
    assert do("publish", message) == do("publish", message)
    assert len(do("info", Info(channels=[message.channel])).channels[message.channel].history) == 1


def test_state_is_changed(do: Do) -> None:
    """State and status are set by key, and the answer names the changes."""
    do("connect", "py-stateful")
    after = do("user_state", "py-stateful", {"mood": "good", "age": None}, public_keys=["mood"])
    assert after.user_state["mood"] == "good"
    assert after.public_keys == ["mood"]
    assert do("user_status", "py-stateful", 3).user_state["status"] == 3


def test_tokens_of_nobody_are_revoked(do: Do) -> None:
    """No connection ends; and a call that names nothing, or both, is refused."""
    assert (do("revoke", user="py-nobody"), do("revoke", jti="py-none")) == (0, 0)
    for both in ({}, {"user": "py-nobody", "jti": "py-none"}):
        with pytest.raises(Invalid) as caught:
            do("revoke", **both)
        assert set(caught.value.faults) == {"user"}


def test_faults_are_reported_by_field(do: Do) -> None:
    """A call that breaks the schema names every fault."""
    with pytest.raises(Invalid) as caught:
        do("connect", "", ["", "ok"])
    assert set(caught.value.faults) == {"username", "channels"}


def test_text_that_is_cut_inside_a_character_is_sent(do: Do) -> None:
    """Half of a surrogate pair, as a page may pass on, counts as the server says, and is no error of its own."""
    assert do("publish", Message(user="ann", channel="news", message="cut \ud83d")).message == "cut \ufffd"
    with pytest.raises(Invalid) as caught:
        do("publish", Message(user="ann \ud83d", channel="news", message="hi"))
    assert list(caught.value.faults) == ["user"]


def test_many_messages_are_sent_in_order(do: Do) -> None:
    """The answers of a batch stand in the order of its messages."""
    messages = [Message(user="ann", channel="py-many", message=number) for number in range(7)]
    assert [sent.uuid for sent in do("publish_many", messages)] == [message.uuid for message in messages]
    assert do("publish_many", []) == []


def test_wrong_secret_is_reported(server: Any) -> None:
    """A secret that is not the server's is an error of its own, and is not in it."""
    with Channelstream(server.url, "wrong") as client, pytest.raises(BadSignature) as caught:
        client.info()
    assert "wrong" not in str(caught.value)


def test_certificates_are_verified_however_the_scheme_is_written() -> None:
    """A scheme has no case (RFC 3986, 3.1)."""
    with Channelstream("HTTPS://Push.example/", "secret") as client:
        assert client.url == "https://Push.example"
    assert tls_context("HTTPS://push.example", True).verify_mode is ssl.CERT_REQUIRED


def test_a_context_of_the_caller_is_used_as_it_is() -> None:
    context = ssl.create_default_context()
    assert tls_context("https://push.example", context) is context


def test_wrong_address_is_reported(server: Any) -> None:
    """A path without a server has its own error; so does a malformed address."""
    with Channelstream(server.url + "/elsewhere", server.secret) as client, pytest.raises(NotFound):
        client.info()
    with pytest.raises(ValueError, match="http"):
        Channelstream("localhost:8000", "secret")


def test_no_server_is_reported() -> None:
    """Where nothing listens, the call is unreachable."""
    with (
        HeldPort() as port,
        Channelstream(f"http://127.0.0.1:{port.number}", "s", retries=ONCE) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.info()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_an_error_without_a_text_is_named() -> None:
    """httpx gives its timeouts no text in asyncio."""

    async def ask() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"http://127.0.0.1:{mute.getsockname()[1]}"
            async with AsyncChannelstream(url, "secret", timeout_s=0.01, retries=ONCE) as client:
                with pytest.raises(Unreachable, match=r"(Read|Connect)Timeout$"):
                    await client.info()

    asyncio.run(ask())


def test_answers_of_another_kind_are_errors(server: Any) -> None:
    """A successful answer without the expected fields is an error of this client."""
    from channelstream_client.model import Connection
    from channelstream_client.reading import read

    with pytest.raises(BadAnswer, match="Connection"):
        read(Connection, {"conn_id": "c"})
    with pytest.raises(BadAnswer, match="expected JSON"):
        result_of(Answer(200, b"[" * 100_000))


@pytest.mark.nodes(1)
def test_one_client_serves_several_loops(server: Any) -> None:
    """A client made once may be used by one `asyncio.run` after the other, and by loops of several threads."""
    client = AsyncChannelstream(server.url, server.secret)

    async def ask() -> Any:
        return await client.info(Info(channels=[]))

    assert asyncio.run(ask()) == asyncio.run(ask())
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(lambda _: asyncio.run(ask()), range(4)))) == 4
    asyncio.run(client.close())
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(ask())


@pytest.mark.nodes(1)
def test_clients_of_closed_loops_are_forgotten(server: Any) -> None:
    """Clients of closed loops are not kept."""
    client = AsyncChannelstream(server.url, server.secret)
    for _ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.info(Info(channels=[])))
        for made in client._clients._clients.values():
            loop.run_until_complete(made.http.aclose())
        loop.close()
    assert len(client._clients._clients) == 1


def test_given_client_of_another_loop_is_named() -> None:
    """An httpx client that is bound to one loop fails in another, and the error says why."""

    class OneLoop(httpx.AsyncBaseTransport):
        loop: asyncio.AbstractEventLoop | None = None

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.loop = self.loop or asyncio.get_running_loop()
            if self.loop.is_closed():
                raise RuntimeError("Event loop is closed")
            return httpx.Response(200, json=True)

    async def ask() -> bool:
        return await client.disconnect("c")

    http = httpx.AsyncClient(transport=OneLoop())
    client = AsyncChannelstream("http://127.0.0.1:9", "s", http=http)
    assert asyncio.run(ask()) is True
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(ask())
    assert "another event loop" in caught.value.__notes__[0]
    asyncio.run(http.aclose())


def test_proxies_of_the_environment_may_be_ignored(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """With `trust_env=False` neither calls nor streams go by the proxies that the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Channelstream(server.url, server.secret, retries=ONCE) as client, pytest.raises(Unreachable):
        client.info()
    with Channelstream(server.url, server.secret, trust_env=False) as client:
        connection = client.connect("py-proxied")
        with client.listen(connection.conn_id, attempts=1) as events:
            next(events)
        client.disconnect(connection.conn_id)
