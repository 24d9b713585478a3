"""An API call, as its handler receives it."""

from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any, NamedTuple, Protocol, Self

from channelstream.api.validation import missing_connection
from channelstream.api.walker import Walker
from channelstream.apps.app import AppLimits
from channelstream.core.ids import is_traceparent, normalize_conn_id
from channelstream.errors import Invalid
from channelstream.http.request import NO_PARAMETERS
from channelstream.service import KeyRate, Service
from channelstream.slices import Slices

MAX_KEY = 255
"""Longest Idempotency-Key, in characters."""


async def finished(result: Any) -> Any:
    """Return what a handler has returned, at once or as a coroutine."""
    return await result if isinstance(result, CoroutineType) else result


class Fields(Protocol):
    """What a call reads of its request besides the body: `http.request.Request`."""

    @property
    def method(self) -> str: ...

    @property
    def scheme(self) -> str: ...

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header with this lower-case name; None if there is none."""

    @property
    def arguments(self) -> Mapping[str, str]:
        """The parameters in the query."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The values of the parameters in the path."""


class NoFields(NamedTuple):
    """The fields of a call that the server itself makes.

    Attributes:
        admin: the name of the admin for whom it is made; empty for none.
    """

    method: str = "POST"
    scheme: str = "http"
    admin: str = ""
    arguments: Mapping[str, str] = NO_PARAMETERS
    parameters: Mapping[str, str] = NO_PARAMETERS

    def header(self, name: bytes) -> None:
        """Return None: it has no headers."""


class Call:
    """An admitted request, with its body.

    Attributes:
        service: that of the application for which the call is made.
        walker: reads the long bodies that msgspec refuses, of all calls.
        key_rate: counts what the key of the call does; None if it has no limits, and for a call of the server itself.
        span: the W3C trace context of the span that records this call; None without one.
    """

    __slots__ = ("_request", "_service_of", "_slices", "body", "key_rate", "service", "span", "walker")

    def __init__(
        self,
        service: Service,
        request: Fields,
        body: bytes,
        walker: Walker,
        service_of: Callable[[str], Service] | None = None,
        key_rate: KeyRate | None = None,
    ) -> None:
        self.service = service
        self._service_of = service_of
        self.body = body
        self.walker = walker
        self.key_rate = key_rate
        self.span: str | None = None
        self._slices: Slices | None = None
        self._request = request

    @classmethod
    def internal(cls, service: Service, body: bytes = b"", admin: str = "") -> Self:
        """Return a call that the server itself makes, for an admin of this name if there is one."""
        return cls(service, NoFields(admin=admin), body, Walker())

    @property
    def slices(self) -> Slices:
        """Divides the work of this call into short event loop turns, from its first use on."""
        if self._slices is None:
            self._slices = Slices(self.service.clock.steady)
        return self._slices

    @property
    def admin(self) -> str:
        """The name of the admin who makes the call from a page; empty for a call of an application."""
        return self._request.admin if isinstance(self._request, NoFields) else ""

    def service_of(self, conn_id: str) -> Service:
        """Return the service of a connection id that is the credential of this call."""
        return self._service_of(conn_id) if self._service_of else self.service

    @property
    def limits(self) -> AppLimits:
        """The upper bounds of one call."""
        return self.service.app.limits

    @property
    def method(self) -> str:
        return self._request.method

    @property
    def scheme(self) -> str:
        """`http` or `https`, as trusted proxies report it."""
        return self._request.scheme

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header with this lower-case name; None if there is none."""
        return self._request.header(name)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The values of the parameters in the path of the endpoint, such as `{key}`."""
        return self._request.parameters

    def argument(self, name: str) -> str:
        """Return the value of a parameter in the query; empty if there is none."""
        return self._request.arguments.get(name, "")

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of this call: that of its span, else of its request; None without a valid one."""
        if self.span is not None:
            return self.span
        text = (self.header(b"traceparent") or b"").decode("latin-1")
        return text if is_traceparent(text) else None

    @property
    def key(self) -> str:
        """The value of the header Idempotency-Key; empty if there is none.

        Raises:
            Invalid: it is too long. A truncated key could equal that of another request, and these messages would be
                taken for duplicates.
        """
        value = self._request.header(b"idempotency-key")
        if value is None:
            return ""
        text = value.decode("latin-1")
        if len(text) > MAX_KEY:
            raise Invalid({"Idempotency-Key": [f"Longer than maximum length {MAX_KEY}."]})
        return text

    def conn_id(self, named: str | None) -> str | None:
        """Return the normal form of the connection id in the body, or else in the query; None if it is malformed.

        Raises:
            Invalid: neither has one.
        """
        text = named or self._request.arguments.get("conn_id")
        if not text:
            raise missing_connection()
        try:
            return normalize_conn_id(text)
        except ValueError:
            return None
