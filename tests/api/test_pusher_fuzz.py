"""Any body and any query of Pusher's calls, with a valid signature: a refusal at worst."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pusher_calls import call

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.sampled_from(
    ["a", "", "presence-a", "cache-a", "a/b", "#server-to-user-a", "12.3", "user_count", "{}"]
)
VALUES = TEXTS | JSON | st.lists(TEXTS, max_size=3)
FIELDS = st.sampled_from(["name", "data", "channel", "channels", "socket_id", "info", "batch", "other"])
EVENTS = st.dictionaries(FIELDS, VALUES, max_size=6)
NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: "." not in name  # A client of HTTP takes dots for a way through the path.
)
BODIES = EVENTS | JSON | st.builds(lambda items: {"batch": items}, st.lists(EVENTS | JSON, max_size=3))
ONE_SERVER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_SERVER
@given(body=BODIES | st.binary(max_size=40), path=st.sampled_from(["/events", "/batch_events"]))
def test_any_body_is_answered(server: Any, body: Any, path: str) -> None:
    """200 or a refusal of the body, in the form of all errors."""
    answer = call(server, "POST", path, body)
    assert answer.status_code in (200, 400, 413), answer.text
    assert (answer.status_code == 200) != ("error" in answer.json())


@ONE_SERVER
@given(
    name=TEXTS | NAMES,
    end=st.sampled_from(["", "/users"]),
    info=TEXTS | st.text(max_size=12),
)
def test_any_channel_may_be_asked_for(server: Any, name: str, end: str, info: str) -> None:
    """However it is written."""
    answer = call(server, "GET", f"/channels/{name}{end}", info=info)
    assert answer.status_code in (200, 400, 404), answer.text


@pytest.mark.parametrize("path", ["/events", "/batch_events"])
def test_very_long_lists_are_refused(server: Any, path: str) -> None:
    """As long as a body may be."""
    many = 400_000 if path == "/events" else 30_000
    bodies = {
        "/events": {"name": "a", "data": "", "channels": ["a"] * many},
        "/batch_events": {"batch": [{"name": "a", "data": "", "channel": "a", "info": "cache"}] * many},
    }
    assert call(server, "POST", path, bodies[path]).status_code == 400
    assert call(
        server, "POST", "/events", bodies["/events"] | {"info": "user_count," * 9_000}
    ).status_code in (400, 413)
