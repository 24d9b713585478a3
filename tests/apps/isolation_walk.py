"""What an application can ask its server for: a row for each route, with the names that it asks about.

`tests/apps/test_walk.py` compares the rows with the routes of the server, so a new route without a row fails there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from tests.applications import PUSHER, RunningApp
from tests.pusher_calls import KIT, call
from tests.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PRESENCE = {"notify_presence": True, "store_history": True, "notify_state": True}
COUNT = "subscription_count"
STREAMED = {"GET /sse", "GET /admin/live", "GET /admin/trace/live"}
"""Answers without an end, of which the first event is read."""


@dataclass(frozen=True)
class Names:
    """Unguessable names and texts of one application, that all contain `mark`."""

    mark: str
    position: str = ""

    @staticmethod
    def drawn() -> "Names":
        return Names(token_hex(6))

    @property
    def uuid(self) -> str:
        return str(UUID(self.mark.rjust(32, "0")))

    @property
    def channel(self) -> str:
        return f"zz-{self.mark}"

    @property
    def user(self) -> str:
        return f"zu-{self.mark}"

    @property
    def conn_id(self) -> str:
        return f"zc-{self.mark}"

    @property
    def text(self) -> dict[str, str]:
        return {"text": f"said {self.mark}"}

    def message(self, **more: Any) -> dict[str, Any]:
        return {"user": self.user, "channel": self.channel, "message": self.text, "uuid": self.uuid} | more


class Ask(NamedTuple):
    """A request for a route.

    Attributes:
        form: whether the body is that of a form.
        path: the channel or user in the path, if it has one.
    """

    query: Mapping[str, str] = {}
    body: Any = None
    form: bool = False
    path: str = ""


Asks = Callable[[Names], list[Ask]]


def once(_: Names) -> list[Ask]:
    return [Ask()]


def _stream(names: Names) -> list[Ask]:
    return [Ask({"conn_id": names.conn_id, "since": names.position})]


def _stream_of_http(names: Names) -> list[Ask]:
    """Return a request for another connection: one whose WebSocket is closed has ended."""
    return [Ask({"conn_id": f"{names.conn_id}-http", "since": names.position})]


def _named(names: Names) -> list[Ask]:
    return [Ask(), *(Ask({"search": text}) for text in (names.channel, names.user, names.conn_id))]


def _subjects(names: Names) -> list[Ask]:
    return [
        Ask({"channel": names.channel}),
        Ask({"user": names.user}),
        Ask({"conn_id": names.conn_id}),
        Ask({"channel": "room", "only_user": names.user}),
    ]


def _started(names: Names) -> list[Ask]:
    """Return requests that start a trace, and stop it: there may be a few at a time."""
    return [Ask(body={**ask.query, "minutes": each}) for ask in _subjects(names)[:3] for each in ("5", "0")]


def _connect(names: Names) -> list[Ask]:
    body = {"username": names.user, "conn_id": names.conn_id, "channels": [names.channel]}
    return [Ask(body=body | {"channel_configs": {names.channel: PRESENCE}})]


def _demo(**body: Any) -> Asks:
    return lambda names: [
        Ask(body={name: value(names) if callable(value) else value for name, value in body.items()})
    ]


API: dict[str, Asks] = {
    "POST /connect": _connect,
    "POST /subscribe": lambda names: [Ask(body={"conn_id": names.conn_id, "channels": [names.channel]})],
    "POST /message": lambda names: [
        Ask(body=names.message(uuid=None)),
        Ask(body=names.message(pm_users=[names.user])),
    ],
    "PATCH /message": lambda names: [Ask(body={"uuid": names.uuid, "channel": names.channel, "message": 1})],
    "POST /user_state": lambda names: [Ask(body={"user": names.user, "user_state": {"mood": 1}})],
    "POST /user_status": lambda names: [Ask(body={"user": names.user, "status": 1})],
    "POST /channel_config": lambda names: [Ask(body={names.channel: {"history_size": 3}})],
    "GET /info": once,
    "POST /info": lambda names: [
        Ask(body={"info": {"channels": [names.channel], "include_connections": True}}),
        Ask(body={"info": {"channels": [names.channel], "users_after": names.user}}),
        Ask(body={"channels": [names.channel]}),
    ],
    "GET /ws": _stream,
    "GET /sse": _stream_of_http,
    "GET /listen": _stream_of_http,
    "POST /listen": _stream_of_http,
    "POST /client": _stream_of_http,
    "POST /revoke": lambda names: [Ask(body={"user": names.user}), Ask(body={"jti": names.mark})],
    "DELETE /message": lambda names: [Ask(body={"uuid": names.uuid, "channel": names.channel})],
    "POST /unsubscribe": lambda names: [Ask(body={"conn_id": names.conn_id, "channels": [names.channel]})],
    "GET /disconnect": lambda names: [Ask({"conn_id": f"{names.conn_id}-x"})],
    "POST /disconnect": lambda names: [Ask(body={"conn_id": f"{names.conn_id}-x"})],
}
"""In this order, since the later ones change what the earlier ones show."""
PAGES: dict[str, Asks] = {
    "GET /": once,
    "GET /admin": once,
    "GET /admin/live": once,
    **{f"GET /admin/{name}": once for name in ("acts", "channels", "users", "connections", "webhooks")},
    **{
        f"GET {prefix}/{kind}": (lambda names, kind=kind: [Ask({"name": getattr(names, kind)})])  # type: ignore[misc]
        for prefix in ("/admin", "/admin/data")
        for kind in ("channel", "user")
    },
    **{
        f"GET {prefix}/connection": lambda names: [Ask({"name": names.conn_id})]
        for prefix in ("/admin", "/admin/data")
    },
    **{f"GET /admin/data/{name}": _named for name in ("channels", "users", "connections")},
    **{
        f"GET /admin/data/{name}": once
        for name in ("acts", "busiest", "endings", "keys", "refused", "slow_clients", "webhooks")
    },
    "POST /admin/do/message": lambda names: [Ask(body=names.message(uuid=None))],
    "POST /admin/do/settings": lambda names: [Ask(body={names.channel: {"history_size": 4}})],
    "POST /admin/do/disconnect": lambda names: [Ask(body={"conn_id": f"{names.conn_id}-x"})],
    "POST /admin/do/give_up_webhooks": lambda names: [Ask(body={"receiver": names.mark})],
    "POST /admin/do/send_webhooks_again": lambda names: [Ask(body={"ids": [names.mark]})],
    "GET /admin/trace": lambda names: [Ask(), *_subjects(names)],
    "GET /admin/trace/live": _subjects,
    "GET /admin/trace.json": lambda names: [Ask(), *_subjects(names)],
    "POST /admin/trace": lambda names: [Ask(body=ask.body, form=True) for ask in _started(names)],
    "POST /admin/trace.json": _started,
    "GET /metrics": once,
    "GET /api-explorer": once,
    "GET /openapi.json": once,
    "POST /admin/sign": lambda _: [Ask(body={"path": "/info"})],
    "GET /admin/sign_in": once,
    "POST /admin/sign_in": lambda _: [Ask(body={"username": "admin", "password": "wrong"}, form=True)],
    "GET /demo": once,
    "GET /demo/alive": once,
    "POST /demo/connect": _demo(username=lambda names: names.user),
    "POST /demo/subscribe": _demo(conn_id=lambda names: names.conn_id, channels=["demo-general"]),
    "POST /demo/unsubscribe": _demo(conn_id=lambda names: names.conn_id, channels=["demo-general"]),
    "POST /demo/state": _demo(status="away"),
    "POST /demo/info": _demo(channels=["demo-general"]),
    "POST /demo/older": _demo(channel="demo-general", before=lambda names: names.uuid),
    "POST /demo/typing": _demo(channel="demo-general"),
    "POST /demo/message": _demo(channel="demo-general", text="hello"),
    "PATCH /demo/message": _demo(uuid=lambda names: names.uuid, text="hello"),
    "DELETE /demo/message": _demo(uuid=lambda names: names.uuid),
    "POST /demo/leave": _demo(),
    "GET /admin/sign_out": once,
    "POST /admin/sign_out": once,
}
OF_SERVER: dict[str, Asks] = {
    **{f"GET {path}": once for path in ("/healthz", "/readyz")},
    **{f"GET /admin/{name}": once for name in ("debug", "admin.json", "nodes")},
    "POST /admin/admin.json": once,
    **{f"GET /admin/data/{name}": once for name in ("history", "slow_turns", "nodes")},
}
"""What only the default application has."""
OF_PUSHER: dict[str, Asks] = {
    "POST /apps/{app_id}/events": lambda names: [
        Ask(body={"name": names.mark, "data": names.mark, "channels": [names.channel], "info": COUNT})
    ],
    "POST /apps/{app_id}/batch_events": lambda names: [
        Ask(body={"batch": [{"name": names.mark, "data": "", "channel": names.channel, "info": COUNT}]})
    ],
    "GET /apps/{app_id}/channels": lambda names: [
        Ask({"info": COUNT}),
        Ask({"filter_by_prefix": names.channel}),
        Ask({"filter_by_prefix": f"presence-{names.channel}", "info": "user_count"}),
    ],
    "GET /apps/{app_id}/channels/{channel}": lambda names: [Ask({"info": COUNT}, path=names.channel)],
    "GET /apps/{app_id}/channels/{channel}/users": lambda names: [Ask(path=f"presence-{names.channel}")],
    "POST /apps/{app_id}/users/{user:path}/terminate_connections": lambda names: [
        Ask(body={}, path=names.user)
    ],
}
"""Paths of the whole server, in which the id is that of the application that asks."""
UNASKED = "/static/"
"""Files of the package: they have no data."""


def _as_text(answer: httpx.Response, text: bytes) -> str:
    fields = [f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie"]
    return "\n".join([str(answer.status_code), *fields, text.decode()])


class Session:
    """The server and the admin of an application in one, who may use all of it."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self._client = httpx.Client(base_url=app.url, verify=False, trust_env=False, timeout=PATIENCE_S)
        self.sign_in()

    def close(self) -> None:
        self._client.close()

    def sign_in(self) -> None:
        form = {"username": "admin", "password": self.app.admin_secret}
        assert self._client.post("/admin/sign_in", data=form).status_code == 302

    def ask(self, route: str, ask: Ask) -> str:
        """Return all of an answer as text: status, headers and body, or how a stream ended."""
        method, path = route.split()
        if path == "/ws":
            return self._stream(ask)
        if path.startswith("/apps/"):
            return self._call(
                method,
                path.partition("}")[2].replace(":path", "").format(channel=ask.path, user=ask.path),
                ask,
            )
        headers = {"sec-fetch-site": "same-origin"} | (self.app.sign(path) if route in API else {})
        body = {"data": ask.body} if ask.form else {"json": ask.body} if ask.body is not None else {}
        request = self._client.build_request(method, path, params=ask.query, headers=headers, **body)
        answer = self._client.send(request, stream=True)
        text = b""
        for part in answer.iter_bytes():
            text += part
            if route in STREAMED and b"data:" in text and text.endswith(b"\n\n"):
                break
        answer.close()
        return _as_text(answer, text)

    def _call(self, method: str, path: str, ask: Ask) -> str:
        """Make a call as Pusher's SDKs do, which know no prefix of an application."""
        own = PUSHER.get(self.app.prefix.removeprefix("/app/"), KIT)
        answer = call(replace(self.app, prefix=""), method, path, ask.body, own, **ask.query)
        return _as_text(answer, answer.content)

    def _stream(self, ask: Ask) -> str:
        query = httpx.QueryParams(ask.query)
        with connect(f"{self.app.ws_url}/ws?{query}") as stream:
            try:
                while not (items := json.loads(stream.recv(PATIENCE_S))):
                    pass  # A heartbeat.
                return json.dumps(items)
            except ConnectionClosed as closed:
                return str(closed.rcvd)
