"""Calls drawn from the OpenAPI document: whatever fits it, or nearly does, is answered as it says, and never by a 5xx.

The calls of an operation are drawn by its test. `schema.parametrize()` would draw them when tests are collected, which every
worker does for all operations: seconds of each, also where no test of the API is chosen.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.waiting import PATIENCE_S

from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.openapi import document

if TYPE_CHECKING:
    from requests import Session
    from schemathesis import Case
    from schemathesis.schemas import BaseSchema

pytestmark = pytest.mark.slow

DOCUMENT = document(ENDPOINTS, "1.2.3")
METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = [
    (path, method) for path, item in DOCUMENT["paths"].items() for method in METHODS.intersection(item)
]


@cache
def described() -> "BaseSchema":
    """The document as schemathesis reads it."""
    import schemathesis

    return schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module", autouse=True)
def history(one_node: Any) -> None:
    """Keep messages, so that answers have items of a history: with text, edited, and with none."""
    one_node.post("/channel_config", {"fuzz-history": {"store_history": True}})
    message = {"user": "fuzz", "channel": "fuzz-history"}
    kept = one_node.post("/message", [message | {"message": {"text": "first"}}, message | {"message": {}}])
    one_node.request("PATCH", "/message", [kept[0] | {"message": {"text": "second"}}]).raise_for_status()


@pytest.fixture(scope="module")
def session() -> "Iterator[Session]":
    """One connection for all calls, which looks for no proxy before each."""
    from requests import Session

    with Session() as session:
        session.trust_env = False
        yield session


# From CPython 3.14 on hypothesis does not find what holds its own generator: it is frozen (`pytest_collection` in conftest).
@pytest.mark.filterwarnings("ignore:It looks like `register_random` was passed")
@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_answers_are_as_described(path: str, method: str, one_node: Any, session: "Session") -> None:
    """Status, content type and body of every operation, signed."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation.hypothesis.builder import (
        HypothesisTestConfig,
        HypothesisTestMode,
        create_test,
    )
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    def answered(case: "Case") -> None:
        case.call_and_validate(
            base_url=one_node.url,
            session=session,
            headers=one_node.sign(path),
            checks=checks,
            timeout=PATIENCE_S,
        )

    schema = described()
    config = HypothesisTestConfig(project=schema.config, modes=list(HypothesisTestMode))
    create_test(operation=schema[path][method], test_func=answered, config=config)()
