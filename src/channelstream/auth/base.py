"""The port of authentication schemes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from channelstream.apps.principal import Principal
from channelstream.core.headers import Header


class Proof(Protocol):
    """The proof that the credentials in a head are valid: a scheme need not check the next request with this head."""

    @property
    def principal(self) -> Principal:
        """For whom they act."""

    def holds(self) -> bool:
        """Whether they still are; if not, they are checked as those of any request."""


class AuthRequest(Protocol):
    """A request before its body is read, as far as schemes need it.

    Attributes:
        proof: what a scheme has found out about its head, if that can be good for further requests.
    """

    proof: Proof | None

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """The decoded path of the endpoint, without the prefix of a proxy."""

    @property
    def target(self) -> bytes:
        """Path and query as they were received, without the prefix of a proxy; an empty query has no question mark."""

    @property
    def root(self) -> str:
        """What the caller has before the path: the prefix of a proxy, and that of an application."""

    @property
    def query(self) -> bytes: ...

    @property
    def headers(self) -> Sequence[Header]: ...

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header with this lower-case name; None if there is none."""

    @property
    def address(self) -> str:
        """The address of the caller, as trusted proxies report it."""

    @property
    def scheme(self) -> str:
        """`http` or `https`, as trusted proxies report it."""


class Once(NamedTuple):
    """What only one request may show, at all nodes together.

    Attributes:
        text: names it among those of the application.
        keep_s: how long it has to be remembered, in seconds.
    """

    text: str
    keep_s: float


class RequestAuth(Protocol):
    """A scheme by which calls of the API prove for whom they act.

    The head is judged before the body is read, so that a stranger cannot make the server read one; the body, where the
    scheme binds it, before it is parsed.
    """

    def principal(self, request: AuthRequest) -> Principal:
        """Return the principal of a request.

        Raises:
            Forbidden: the address may not call, or the request has no credentials.
            BadSignature: the credentials are not valid.
            Unavailable: they may have been shown to the process before this one.
            TooManyRequests: the address of the caller has shown too many wrong ones.
        """

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        """Accept the body of a request that has a principal; return what no other request may show, if there is something.

        Need not be called for a principal whose proof does not bind the body.

        Raises:
            BadSignature: it is not the body that was signed.
            TooManyRequests: the key of the request has to wait.
        """
