"""Calls drawn from the OpenAPI document: whatever fits it, or nearly does, is answered as it says, and never by a 5xx."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.waiting import PATIENCE_S

from channelstream.api.endpoints import ENDPOINTS
from channelstream.api.openapi import document

schema = schemathesis.openapi.from_dict(document(ENDPOINTS, "1.2.3"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case: Any, one_node: Any) -> None:
    """Status, content type and body of every operation, signed."""
    case.call_and_validate(
        base_url=one_node.url, headers=one_node.sign(case.operation.path), checks=CHECKS, timeout=PATIENCE_S
    )
