"""How often an address may show wrong credentials: whatever they are, and wherever a request shows them."""

from collections.abc import Iterator

import httpx
import pytest
from itsdangerous import TimestampSigner
from tests.conftest import ADMIN_SECRET, RunningServer
from tests.pusher_calls import KIT
from tests.strangers import PROXY, limited, new_address, server_with_strangers, through_proxy
from tests.token_client import SECRET, token
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.pusher.rows import PUSHER_ENDPOINTS
from channelstream.api.table import Auth

SIGNED = [(row.methods[0], row.path) for row in ENDPOINTS if row.auth is Auth.SIGNED]
OF_PUSHER = [(row.methods[0], row.path) for row in PUSHER_ENDPOINTS if row.auth is Auth.PUSHER]
WRONG = {
    "secret": {"x-channelstream-secret": "wrong"},
    "signature": {"authorization": "CS-HMAC-SHA256 wrong"},
    "token": {"authorization": "Bearer wrong", "x-forwarded-proto": "https"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Return a server that takes calls from any address."""
    with server_with_strangers(CHANNELSTREAM_ALLOW_POSTING_FROM="0.0.0.0") as running:
        yield running


@pytest.fixture
def caller(server: RunningServer) -> Iterator[httpx.Client]:
    """Return a client at an address that has shown nothing yet."""
    with through_proxy(server, new_address()) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), SIGNED)
def test_a_call_is_refused_otherwise_after_too_many(caller: httpx.Client, method: str, path: str) -> None:
    """Each call of the API, with whatever it proves for whom it acts."""
    answers = [caller.request(method, path, headers=WRONG["secret"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[2].json()["code"] == "too_many_requests"
    assert 0 < int(answers[2].headers["retry-after"]) <= 50


@pytest.mark.parametrize(("method", "path"), OF_PUSHER)
def test_a_call_of_pusher_is_as_well(caller: httpx.Client, method: str, path: str) -> None:
    path = path.replace("{app_id}", KIT["APP_ID"]).replace("{channel}", "a").replace("{user_id}", "u")
    query = {"auth_key": KIT["KEY"], "auth_version": "1.0", "auth_timestamp": "1", "auth_signature": "x"}
    found = [caller.request(method, path, params=query).status_code for _ in range(3)]
    assert found == [401, 401, 429]


@pytest.mark.parametrize("wrong", WRONG)
def test_all_forms_of_credentials_count_together(
    server: RunningServer, caller: httpx.Client, wrong: str
) -> None:
    """So do tokens of `/client` and of polls. Right ones are not refused: others may share the address."""
    before = limited(server, "credentials")
    assert caller.post("/message", headers=WRONG[wrong]).status_code == 401
    assert caller.post("/client", headers=WRONG["token"]).status_code == 401
    assert caller.post("/client", headers=WRONG["token"]).status_code == 429
    assert caller.post("/message", headers=WRONG["secret"]).status_code == 429
    assert caller.get("/listen", params={"conn_id": ""}, headers=WRONG["token"]).status_code == 429
    assert caller.get("/admin/data/channels", headers=WRONG["secret"]).status_code == 429
    assert limited(server, "credentials") == before + 4
    right = {"authorization": f"Bearer {token()}"}
    assert caller.post("/client", headers=right).json()["code"] == "unknown_connection"
    assert caller.get("/listen", params={"conn_id": ""}, headers=right).status_code == 200
    signed = {"x-channelstream-secret": TimestampSigner(SECRET).sign("/info").decode()}
    assert caller.post("/info", headers=signed).status_code == 200
    assert limited(server, "credentials") == before + 4
    other = {"x-forwarded-for": new_address()}
    assert caller.post("/message", headers=WRONG[wrong] | other).status_code == 401


def test_a_page_that_is_shown_none_is_not_refused(caller: httpx.Client) -> None:
    """A scraper with its password goes on, and an admin comes to the form."""
    for _ in range(3):
        caller.post("/message", headers=WRONG["secret"])
    assert caller.get("/admin/data/channels", headers=WRONG["secret"]).status_code == 429
    assert caller.get("/metrics", auth=("admin", ADMIN_SECRET)).status_code == 200
    assert caller.get("/admin").headers["location"].startswith("/admin/sign_in")


def test_a_token_in_the_first_text_counts(server: RunningServer, caller: httpx.Client) -> None:
    """Although the line that it opens is counted as well."""
    headers = {"x-forwarded-for": caller.headers["x-forwarded-for"]}
    for number in range(2):
        with connect(
            f"{server.ws_url}/ws?a={number}", additional_headers=headers, source_address=(PROXY, 0)
        ) as line:
            line.send('{"id": 1, "type": "connect", "token": "wrong"}')
            with pytest.raises(ConnectionClosed):
                line.recv(PATIENCE_S)
    assert caller.post("/client", headers=WRONG["token"]).status_code == 429


def test_a_known_connection_is_polled_on(server: RunningServer, caller: httpx.Client) -> None:
    """What is open stays open, whatever others at its address show."""
    opened = server.post("/connect", {"username": "ann", "channels": ["room"]})
    server.post("/message", {"user": "bob", "channel": "room", "message": "m"})
    assert [caller.post("/client", headers=WRONG["token"]).status_code for _ in range(3)] == [401, 401, 429]
    known = {"conn_id": opened["conn_id"], "since": opened["position"]}
    assert caller.get("/listen", params=known).status_code == 200
