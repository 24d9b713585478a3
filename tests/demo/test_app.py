"""The demo's backend: its calls to the push server for each visitor."""

import pytest
from httpx import Client

ANN = {"username": "ann"}
BOB = {"username": "bob"}


def say(browser: Client, **body: object) -> dict:
    return browser.post("/demo/message", json=body).json()[0]


def test_a_page_learns_that_the_server_is_there(browser: Client, push_server) -> None:
    """A stranger too; the push server is not asked."""
    answer = browser.get("/demo/alive")
    assert (answer.status_code, answer.content, push_server.calls) == (204, b"", [])


def test_connect_introduces_the_visitor(browser: Client, push_server) -> None:
    """The name, two channels to begin with, a public status and a fresh conn_id go to the push server."""
    answer = browser.post("/demo/connect", json=ANN).json()
    method, path, body = push_server.calls[0]
    assert (method, path) == ("POST", "/connect")
    assert body["username"] == "ann"
    assert body["channels"] == ["demo-general", "demo-random"]
    assert body["state_public_keys"] == ["status"]
    assert body["channel_configs"]["demo-help"]["notify_presence"] is True
    assert answer["all_channels"] == ["demo-general", "demo-random", "demo-help"]
    assert answer["conn_id"] == body["conn_id"]


def test_the_cookie_knows_the_visitor_again(browser: Client, push_server) -> None:
    """After a reload the page and /demo/connect need no name; the cookie is HttpOnly and SameSite."""
    cookie = browser.post("/demo/connect", json=ANN).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/demo" in cookie
    assert 'data-visitor="ann"' in browser.get("/demo").text
    browser.post("/demo/connect", json={"channels": ["demo-help"]})
    assert push_server.calls[-1][2]["username"] == "ann"
    assert push_server.calls[-1][2]["channels"] == ["demo-help"]


def test_a_name_belongs_to_one_visitor_until_they_leave(browser: Client, other_browser: Client) -> None:
    """No other visitor gets it in any spelling; leaving releases it."""
    browser.post("/demo/connect", json=ANN)
    assert other_browser.post("/demo/connect", json={"username": " ANN "}).status_code == 409
    assert browser.post("/demo/connect", json=ANN).status_code == 200
    assert browser.post("/demo/leave", json={}).status_code == 200
    assert other_browser.post("/demo/connect", json=ANN).status_code == 200


def test_a_page_that_lost_its_connection_reads_on(
    browser: Client, other_browser: Client, push_server
) -> None:
    """Its position is passed on, but not with a name that is new to the visitor, or belonged to another one."""

    def handed_on(visitor: Client, **more: object) -> str:
        visitor.post("/demo/connect", json={"since": "k3f9a1-7", **more})
        return push_server.calls[-1][2]["since"]

    assert handed_on(browser, **ANN) == ""
    assert handed_on(browser) == "k3f9a1-7"
    assert handed_on(browser, since=7) == ""
    browser.post("/demo/leave", json={})
    assert handed_on(other_browser, **ANN) == ""
    assert handed_on(other_browser) == ""


def test_leaving_disconnects_all_of_the_visitors_windows(browser: Client, push_server) -> None:
    """Each connection ends at once, and the cookie is gone."""
    ids = {browser.post("/demo/connect", json=ANN).json()["conn_id"] for _ in range(2)}
    browser.post("/demo/leave", json={})
    assert {body["conn_id"] for _, path, body in push_server.calls if path == "/disconnect"} == ids
    assert browser.post("/demo/state", json={"status": "busy"}).status_code == 401


def test_messages_go_to_a_channel_or_to_two_people(browser: Client, push_server) -> None:
    """A channel message names the channel, a private one both people; the user comes from the cookie."""
    browser.post("/demo/connect", json=ANN)
    say(browser, channel="demo-general", text=" hello ", user="bob")
    say(browser, to="bob", text="psst")
    public, private = (body[0] for _, path, body in push_server.calls if path == "/message")
    assert (public["channel"], public["user"], public["message"]) == (
        "demo-general",
        "ann",
        {"text": "hello"},
    )
    assert (private["pm_users"], private["message"]) == (["ann", "bob"], {"text": "psst", "to": "bob"})
    assert "channel" not in private


def test_typing_is_kept_nowhere(browser: Client, push_server) -> None:
    """It goes to the others in a channel or to one person, no history has it, and no page loads it."""
    browser.post("/demo/connect", json=ANN)
    browser.post("/demo/typing", json={"channel": "demo-general"})
    browser.post("/demo/typing", json={"to": "bob"})
    items = [body[0] for _, path, body in push_server.calls if path == "/message"]
    same = {"user": "ann", "message": {"typing": True}, "no_history": True}
    assert items == [
        {"channel": "demo-general", "exclude_users": ["ann"], **same},
        {"pm_users": ["bob"], **same},
    ]
    assert browser.post("/demo/connect", json={}).json()["private"] == []


def test_authors_edit_and_delete_where_they_wrote(browser: Client, push_server) -> None:
    """An edit and a delete go to the message's own channel or people."""
    browser.post("/demo/connect", json=ANN)
    public = say(browser, channel="demo-random", text="one")["uuid"]
    private = say(browser, to="bob", text="two")["uuid"]
    browser.patch("/demo/message", json={"uuid": public, "text": "1"})
    browser.patch("/demo/message", json={"uuid": private, "text": "2"})
    browser.request("DELETE", "/demo/message", json={"uuid": public})
    edits = [(method, body[0]) for method, path, body in push_server.calls if path == "/message"][2:]
    user = {"user": "ann"}
    assert edits == [
        ("PATCH", {"channel": "demo-random", "uuid": public, "message": {"text": "1"}, **user}),
        (
            "PATCH",
            {"pm_users": ["ann", "bob"], "uuid": private, "message": {"text": "2", "to": "bob"}, **user},
        ),
        ("DELETE", {"channel": "demo-random", "uuid": public, **user}),
    ]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_nobody_else_changes_a_message(
    browser: Client, other_browser: Client, push_server, method: str
) -> None:
    """Another visitor, and an unknown uuid, get 403; nothing is sent."""
    browser.post("/demo/connect", json=ANN)
    other_browser.post("/demo/connect", json=BOB)
    uuid = say(browser, channel="demo-general", text="mine")["uuid"]
    before = len(push_server.calls)
    for claimed in (uuid, "unknown", ["a list"]):
        answer = other_browser.request(method, "/demo/message", json={"uuid": claimed, "text": "x"})
        assert answer.status_code == 403
    assert len(push_server.calls) == before


@pytest.mark.parametrize("path", ["/demo/subscribe", "/demo/unsubscribe"])
def test_only_ones_own_connection_changes_channels(
    browser: Client, other_browser: Client, push_server, path: str
) -> None:
    """The owner's call is forwarded; another visitor's, or one for an unknown connection, gets 409."""
    conn_id = browser.post("/demo/connect", json=ANN).json()["conn_id"]
    other_browser.post("/demo/connect", json=BOB)
    wish = {"conn_id": conn_id, "channels": ["demo-help"]}
    assert other_browser.post(path, json=wish).status_code == 409
    assert browser.post(path, json={"channels": ["demo-help"]}).status_code == 409
    assert browser.post(path, json=wish).status_code == 200
    assert push_server.calls[-1][1] == path.removeprefix("/demo")
    assert push_server.calls[-1][2]["conn_id"] == conn_id


def test_a_visitor_changes_its_own_status_and_reads_demo_channels(browser: Client, push_server) -> None:
    """A status changes the visitor's own state; info lists demo channels, with history and people."""
    browser.post("/demo/connect", json=ANN)
    browser.post("/demo/state", json={"status": "busy"})
    assert push_server.calls[-1] == ("POST", "/user_state", {"user": "ann", "user_state": {"status": "busy"}})
    browser.post("/demo/info", json={"channels": ["demo-general"]})
    assert push_server.calls[-1][2]["info"]["channels"] == ["demo-general"]
    assert push_server.calls[-1][2]["info"]["include_history"] is True


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/demo/connect", {"username": ""}),
        ("/demo/connect", {"username": " \t "}),
        ("/demo/connect", {"username": "x" * 33}),
        ("/demo/connect", {"username": "a\u202eb"}),
        ("/demo/connect", {"username": "a\u200db"}),
        ("/demo/connect", {"username": 7}),
        ("/demo/connect", {"username": "ann", "channels": ["production"]}),
        ("/demo/connect", {"channels": []}),
        ("/demo/message", {"channel": "production", "text": "x"}),
        ("/demo/message", {"channel": ["demo-general"], "text": "x"}),
        ("/demo/message", {"channel": "demo-general", "text": " "}),
        ("/demo/message", {"channel": "demo-general", "text": "x" * 2001}),
        ("/demo/message", {"to": 5, "text": "x"}),
        ("/demo/typing", {"channel": "production"}),
        ("/demo/typing", {"to": 5}),
        ("/demo/info", {}),
        ("/demo/older", {"channel": "production"}),
        ("/demo/info", {"channels": "demo-general"}),
        ("/demo/state", {"status": ["busy"]}),
        ("/demo/state", {"status": "asleep"}),
    ],
)
def test_out_of_bounds_values_get_422(browser: Client, push_server, path: str, body: dict) -> None:
    """Names, texts, channels and statuses are checked before the push server gets them."""
    browser.post("/demo/connect", json={"username": "zoe"})
    before = len(push_server.calls)
    answer = browser.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["error"].endswith(".")
    assert len(push_server.calls) == before


@pytest.mark.parametrize(
    "path", ["subscribe", "unsubscribe", "state", "info", "older", "typing", "message", "leave", "connect"]
)
def test_strangers_get_401(browser: Client, push_server, path: str) -> None:
    """Without a name nothing can be done."""
    assert browser.post(f"/demo/{path}", json={}).status_code == 401
    assert push_server.calls == []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        ('{"username": "ann"}', {"content-type": "text/plain"}, 403),
        ('{"username": "ann"}', {}, 403),
        ('{"username": "ann"}', {"content-type": "application/json", "origin": "http://evil.test"}, 403),
        ('{"username": "ann"}', {"content-type": "application/json; charset=utf-8"}, 200),
        ("[1]", {"content-type": "application/json"}, 400),
        ('{"username": "\\ud800"}', {"content-type": "application/json"}, 400),
        ("[" * 9000, {"content-type": "application/json"}, 400),
        ("x" * 20_000, {"content-type": "application/json"}, 413),
    ],
)
def test_only_json_from_our_own_page_is_read(
    browser: Client, content: str, headers: dict[str, str], status: int
) -> None:
    """Forged, malformed and oversized requests are answered with their fault."""
    assert browser.post("/demo/connect", content=content, headers=headers).status_code == status


@pytest.mark.parametrize(("status", "answered"), [(422, 409), (403, 502), (500, 502)])
def test_a_refusal_of_the_push_server_is_shown(
    browser: Client, push_server, status: int, answered: int
) -> None:
    """422 means that the connection has ended, so that the page reconnects; other refusals are faults of the demo."""
    push_server.status = status
    assert browser.post("/demo/connect", json=ANN).status_code == answered


def test_names_with_markup_are_text_in_the_page(browser: Client) -> None:
    """The template escapes the name of the cookie."""
    browser.post("/demo/connect", json={"username": "<img src=x onerror=alert(1)>"})
    text = browser.get("/demo").text
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
