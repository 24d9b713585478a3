"""The isolation walk: an application asks for all that its server has, and finds nothing of another one.

The routes are those of the server's own tables. The other application is full of texts that nobody can guess: each answer
is searched for them. Then the names of the other one are asked for, and each answer has to be that for names which
nobody has.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from secrets import token_hex
from typing import Any

import pytest
from tests.applications import PUSHER, RunningApp, app_of, launch_apps
from tests.apps.isolation_walk import (
    API,
    OF_PUSHER,
    OF_SERVER,
    PAGES,
    PRESENCE,
    UNASKED,
    Ask,
    Asks,
    Names,
    Session,
)
from tests.conftest import RunningServer
from tests.pusher_calls import KIT
from tests.redis_server import RedisServer
from tests.waiting import eventually
from websockets.sync.client import connect

from channelstream import app_tables
from channelstream.config import Settings
from channelstream.config.app_section import AppSection
from channelstream.core.policy import Policy
from channelstream.http.router import Route, Router
from channelstream.server import build
from channelstream.site import PageNeeds

ALL = API | PAGES
EVERYWHERE = OF_PUSHER | ALL
"""What each application may ask for, below its own path or not."""
SHOWING = {
    *("GET /info", "POST /info", "GET /ws", "GET /sse", "GET /listen", "POST /connect"),
    *(
        f"GET /admin/data/{name}"
        for name in ("channels", "users", "connections", "channel", "user", "connection")
    ),
    *("GET /apps/{app_id}/channels", "GET /apps/{app_id}/channels/{channel}/users"),
    *("GET /admin/trace.json", "GET /admin/trace", "GET /admin/data/endings", "POST /admin/trace.json"),
}
"""Where an application finds its own data: that the walk would see another one's is no accident."""
VARYING = re.compile(r'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"(?:server_)?position":"[^"]*"|\d+')
"""What differs between two equal answers: ids, positions and numbers."""


def routes_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Return all routes of a server with the application `shop`, by application, from the tables that it makes."""
    found: dict[str, set[str]] = {}
    make_router, make_pages = app_tables.Router, app_tables.routes

    def recorded_pages(settings: Settings, needs: PageNeeds, app_id: str) -> Any:
        pages = make_pages(settings, needs, app_id)
        found[app_id] = {f"{method} {page.path}" for page in pages for method in page.methods}  # type: ignore[attr-defined]
        return pages

    def recorded_router(policy: Policy, rows: Iterable[Route], *more: Any) -> Router:
        table = list(rows)
        if more:  # The other ones are those of the demo, which has a part of these rows.
            of_app = list(found.values())[-1]
            of_app.update(f"{method} {row.path}" for row in table for method in row.handlers)
        return make_router(policy, table, *more)

    monkeypatch.setattr(app_tables, "Router", recorded_router)
    monkeypatch.setattr(app_tables, "routes", recorded_pages)
    build(Settings(apps=(AppSection("shop", {"secret": "x"}),)))
    return {app_id: set(filter(_has_data, routes)) for app_id, routes in found.items()}


def _has_data(route: str) -> bool:
    return not route.startswith("HEAD ") and UNASKED not in route


def test_the_walk_asks_every_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one needs a row of `tests/apps/isolation_walk.py`; further applications have those of no others."""
    assert routes_of(monkeypatch) == {"": set(EVERYWHERE | OF_SERVER), "shop": set(ALL)}


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)], scope="module")
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[RunningServer]]:
    """A server with three applications; two of them on one Redis."""
    count, engine = 1, request.param
    if engine == "sqlite":
        engine = f"sqlite:///{tmp_path_factory.mktemp('walk') / 'log.db'}"
    if engine == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        count, engine = 2, redis.address
    with ExitStack() as stack:
        running = [launch_apps("--engine", engine) for _ in range(count)]
        for node in running:
            stack.callback(node.stop)
        yield running


def applications(node: RunningServer) -> dict[str, RunningApp]:
    """Return the applications of a node; the default one has no prefix."""
    default = RunningApp(node.process, node.port, [], node.secret, node.admin_secret)
    return {"": default, "shop": app_of(node, "shop"), "blog": app_of(node, "blog")}


def fill(app: RunningApp, names: Names, agents: ExitStack) -> Names:
    """Use all of an application; return the names with a position before all messages."""
    state = {"user_state": {"mood": names.mark}, "state_public_keys": ["mood"]}
    of_pusher = [f"pusher/{prefix}{names.channel}" for prefix in ("", "presence-")]
    channels = [names.channel, "room", *of_pusher]
    body = {"username": names.user, "channels": channels, "conn_id": names.conn_id, **state}
    opened = app.post("/connect", body | {"channel_configs": {names.channel: PRESENCE, "room": PRESENCE}})
    app.post("/connect", body | {"conn_id": f"{names.conn_id}-http"})
    for conn_id in (f"{names.conn_id}-stream", f"{names.conn_id}-ended"):
        app.post("/connect", body | {"conn_id": conn_id})
        address = f"{app.ws_url}/ws?conn_id={conn_id}"
        # Without a bound: nobody reads, and the close of a client whose queue is full waits for ten seconds.
        agents.enter_context(connect(address, user_agent_header=f"agent {names.mark}", max_queue=None))
    app.post("/disconnect", {"conn_id": f"{names.conn_id}-ended"})
    session = Session(app)
    for subject in ({"channel": names.channel}, {"channel": "room"}, {"user": names.user}):
        session.ask("POST /admin/trace.json", Ask(body=subject))
    app.post("/message", [names.message(), names.message(uuid=None, channel="room")])
    app.post("/message", names.message(uuid=None, pm_users=[names.user], channel=None))
    app.request("PATCH", "/message", {"uuid": names.uuid, "channel": names.channel, "message": names.text})
    app.request("POST", "/info", {"channels": [names.mark]}, headers={"x-channelstream-secret": names.mark})
    session.ask("POST /demo/connect", Ask(body={"username": names.user}))
    session.ask("POST /demo/message", Ask(body={"channel": "demo-general", "text": names.mark}))
    session.close()
    return Names(names.mark, opened["position"])


def asked(
    session: Session, rows: Mapping[str, Asks], names: Names, only_by_name: bool = False
) -> Iterator[tuple[str, str]]:
    """Ask for all routes; yield each with an answer.

    Args:
        only_by_name: leave requests out that have none of the names.
    """
    for route, asks in rows.items():
        for ask in asks(names):
            if not only_by_name or names.mark in str(ask):
                yield route, session.ask(route, ask)
        if route.endswith("/admin/sign_out"):
            session.sign_in()


def without(names: Names, answer: str) -> str:
    """Return an answer without these names, and what differs between two equal ones."""
    for name in (names.uuid, names.mark):
        answer = answer.replace(name, "NAME")
    return VARYING.sub("#", answer)


def seen_by_itself(app: RunningApp) -> list[str]:
    """Return what an application finds of its data."""
    session = Session(app)
    routes = ("GET /info", *(f"GET /admin/data/{name}" for name in ("channels", "users", "connections")))
    found = [VARYING.sub("#", session.ask(route, Ask())) for route in routes]
    session.close()
    return found


def secrets_of(app: RunningApp) -> set[str]:
    pusher = PUSHER.get(app.prefix.removeprefix("/app/"), KIT)
    return {app.secret, app.admin_secret, pusher["SECRET"]}


@pytest.mark.parametrize(("app_id", "other_id"), [("shop", "blog"), ("shop", ""), ("", "shop")])
def test_an_application_finds_nothing_of_another(
    nodes: list[RunningServer], app_id: str, other_id: str
) -> None:
    """On any node, in any answer; and what it does changes nothing there."""
    with ExitStack() as stack:
        mine, others = ([applications(node)[each] for node in nodes] for each in (app_id, other_id))
        foreign = [fill(app, Names.drawn(), stack) for app in others]
        own = fill(mine[0], Names.drawn(), stack)
        for names in foreign:
            others[-1].post("/message", names.message(uuid=None, channel="room"))
        marks = {names.mark for names in foreign} | secrets_of(others[0]) | {others[0].connect("ann")}
        before = seen_by_itself(others[0])
        sessions = [Session(app) for app in mine]
        for session in sessions:
            stack.callback(session.close)
            search(session, EVERYWHERE if app_id else OF_SERVER | EVERYWHERE, own, marks)
        # Only now, and by other names at each node: those that are asked for may be this application's afterwards.
        for session, names in zip(sessions, foreign, strict=True):
            compare(session, names, Names(token_hex(6), names.position))
        assert seen_by_itself(others[0]) == before


def search(session: Session, rows: Mapping[str, Asks], own: Names, marks: set[str]) -> None:
    """Search all answers for the texts of another application; its own are where they belong."""
    missing = set(SHOWING)
    for route, answer in asked(session, rows, own):
        check(route, answer, marks)
        missing -= {route} if own.mark in answer else set()

    def is_shown(route: str) -> bool:
        answers = list(asked(session, {route: rows[route]}, own))
        for _, answer in answers:
            check(route, answer, marks)
        return any(own.mark in answer for _, answer in answers)

    for route in missing:  # What pages share of a reading may be a second old.
        eventually(partial(is_shown, route), f"{route} has nothing of the application itself")


def check(route: str, answer: str, marks: set[str]) -> None:
    leaks = [mark for mark in marks if mark in answer]
    assert not leaks, f"{route} has {leaks} of another application: {answer}"


def compare(session: Session, foreign: Names, nobody: Names) -> None:
    """Ask by the names of another application, and in turn by names that nobody has."""
    # `POST /demo/connect` lists all who are there.
    rows = {route: asks for route, asks in EVERYWHERE.items() if route != "POST /demo/connect"}
    asks = (asked(session, rows, names, only_by_name=True) for names in (foreign, nobody))
    for (route, answer), (_, expected) in zip(*asks, strict=True):
        assert without(foreign, answer) == without(nobody, expected), route
