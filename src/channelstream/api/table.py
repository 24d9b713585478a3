"""One row of the endpoint table: what routing, validation and the OpenAPI document all read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path and the methods that share a handler, a request and an answer.

    Attributes:
        path: literal path, without parameters.
        methods: HTTP methods, upper-case.
        handler: what answers a request; called by the router, never from here.
        request: schema of the body; None where there is none.
        many: the body may be one object or a list of them, and the answer has the same form.
        response: type of the answer (of one item, if `many`); None where it has no documented shape.
        summary: a few words, for the list of operations.
        description: what the call does, in Markdown.
        signed: whether the request must carry a signature.
        query: names of the query parameters it reads.
    """

    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    request: Any
    many: bool
    response: Any
    summary: str
    description: str
    signed: bool = True
    query: tuple[str, ...] = ()
