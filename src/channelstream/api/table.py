"""The row type of the endpoint table. Routing, validation and the OpenAPI document read the rows."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from channelstream.apps.principal import Right


class Auth(Enum):
    """The scheme by which callers of an endpoint prove for whom they act."""

    SIGNED = auto()
    """A signature of the application's server."""
    PUSHER = auto()
    """One in the query, as SDKs of Pusher make it, by the application that the path names."""
    NONE = auto()
    """None: an argument of the call is the credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A path, and the methods that share a handler, a request schema and an answer.

    Attributes:
        path: the path; parameters are in braces, such as `/app/{key}`.
        methods: HTTP methods, upper-case.
        handler: answers a request, at once or as a coroutine; `app` calls it.
        request: schema of the body; None if there is no body.
        many: the body may be one object or a list of objects, and the answer has the same form.
        response: type of the answer (of one item, if `many`); None if the answer has no documented form.
        summary: a few words, for the list of operations.
        description: the effect of the call, in Markdown.
        auth: the scheme of its callers.
        right: what its callers must have; None for calls that need no credentials.
        query: names of the query parameters that the handler reads.
        example: the body that the API explorer offers; None means one with every field of the schema.
    """

    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    request: Any
    response: Any
    summary: str
    description: str
    many: bool = False
    auth: Auth = Auth.SIGNED
    right: Right | None = None
    query: tuple[str, ...] = ()
    example: Any = None

    def __post_init__(self) -> None:
        """Refuse a row that every key of an application would open.

        Raises:
            ValueError: its callers have keys, and it takes no right.
        """
        if self.auth is not Auth.NONE and self.right is None:
            raise ValueError(f"{self.path}: a row whose callers have keys takes a right")
