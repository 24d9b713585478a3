"""The table of the whole server: who answers a request, or takes its socket over.

What every answer has in common is decided here: the prefix of a proxy, the scheme, preflights (OPTIONS), methods and
paths that do not exist, CORS, and the form of errors.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from channelstream.core.headers import Header
from channelstream.core.http_head import RequestHead
from channelstream.core.policy import Policy
from channelstream.errors import ChannelstreamError, Internal, NotFound
from channelstream.http.request import ClientGone, Request, Source
from channelstream.http.response import TEXT, Response, refusal
from channelstream.http.takeover import TakeOver

Handler = Callable[[Request], Response | Awaitable[Response | None]]
"""Answers a request, at once if it has nothing to wait for; may raise a `ChannelstreamError` or `ClientGone`. None: it has
written its answer itself."""
Opener = Callable[[RequestHead], TakeOver | None]
"""Returns what takes over the socket of a request; None if its handler answers. May raise a refusal, after which the
connection is closed."""
Cors = Callable[[RequestHead], tuple[Header, ...]]

ANY_METHOD = "*"
APP_PREFIX = "/app/"
"""Begins the paths of further applications: `/app/shop/message` is the path `/message` of the application `shop`."""
PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
"""A parameter in the path of a route; with `:path` after its name it may have slashes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """A path, and who serves it.

    Attributes:
        path: literal, or with parameters that stand for one segment each: `/app/{key}`; for more with `:path`.
        handlers: by method; `ANY_METHOD` for all that are not named.
        headers: fields of every answer, besides those of CORS.
        opens: takes sockets over for GET; None if it never does.
        cors: returns the CORS headers of its answers to a request; None means those of the policy.
        serves_plain_http: also where `enforce_https` is on.
    """

    path: str
    handlers: Mapping[str, Handler]
    headers: tuple[Header, ...] = ()
    opens: Opener | None = None
    cors: Cors | None = None
    serves_plain_http: bool = False


def _not_found(request: Request) -> Response:
    raise NotFound.path(request.path)


NOWHERE = Route("", {ANY_METHOD: _not_found})
"""Serves the paths of no route."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A route with parameters in its path."""

    route: Route
    expression: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        literal = map(re.escape, PARAMETER.split(self.route.path)[::2])
        named = [
            f"(?P<{found[1]}>{'.+' if ':' in found[0] else '[^/]+'})"
            for found in PARAMETER.finditer(self.route.path)
        ]
        text = "".join(part for pair in zip(literal, [*named, ""], strict=True) for part in pair)
        object.__setattr__(self, "expression", re.compile(text, re.DOTALL))


OnRefusal = Callable[[str, str, ChannelstreamError, str], None]
"""Takes the method, the path of the route, the error, and the caller's address."""


class Router:
    """Finds the route of a request.

    Further applications have routers of their own, with other routes, origins and refusals: for the paths below
    `APP_PREFIX`, from which the prefix is taken, and for the refusals of requests that name one by other means.
    """

    def __init__(
        self,
        policy: Policy,
        routes: Iterable[Route],
        rest: Route = NOWHERE,
        on_refusal: OnRefusal = lambda method, route, error, address: None,
        apps: Mapping[str, "Router"] = MappingProxyType({}),
    ) -> None:
        """Create the table.

        Args:
            policy: who is calling, from where.
            routes: their paths are different; a literal path goes before one with parameters.
            rest: serves all other paths.
            on_refusal: called for each refused request.
            apps: the routers of further applications, by id.
        """
        table = list(routes)
        self.policy = policy
        self._literal = {route.path: route for route in table if not PARAMETER.search(route.path)}
        self._patterns = [_Pattern(route) for route in table if PARAMETER.search(route.path)]
        self._rest = rest
        self._on_refusal = on_refusal
        self._apps = apps

    def request(self, head: RequestHead, source: Source) -> Request:
        """Return a request without the prefix of a proxy, and that of an application, in its path."""
        if self.policy.has_proxies:
            head = head._replace(path=self.policy.path(head))
        if self._apps and head.path.startswith(APP_PREFIX):
            app_id, slash, rest = head.path.removeprefix(APP_PREFIX).partition("/")
            router = self._apps.get(app_id)
            if slash and router is not None:
                return Request(head._replace(path=f"/{rest}"), source, router.policy, app_id)
        return Request(head, source, self.policy)

    def _of(self, request: Request) -> "Router":
        """Return the router of the application that a request is for, as far as that is known yet."""
        return self._apps.get(request.app_id, self) if self._apps else self

    def match(self, request: Request) -> Handler | TakeOver:
        """Return who serves a request. The handler is as good for further requests with this head (`Request.handler`).

        Raises:
            ChannelstreamError: its socket cannot be taken over, and must be closed after this error.
        """
        router = self._of(request)
        route = router._find(request)
        if route.opens is None:
            request.handler = router._handler(route, request)
            return request.handler
        if request.method == "GET" and (taken := route.opens(request.head)):
            return taken
        return router._handler(route, request)

    def handler(self, request: Request) -> Handler:
        """Return who answers a request whose socket is not taken over."""
        router = self._of(request)
        return router._handler(router._find(request), request)

    async def answer(self, request: Request) -> Response | None:
        """Return the answer to a request whose socket is not taken over; None if its handler has written it.

        Raises:
            ClientGone: there is no one to answer.
        """
        answer = self.handler(request)(request)
        return answer if isinstance(answer, Response) else await answer

    def _find(self, request: Request) -> Route:
        path = request.path
        route = self._literal.get(path) or self._find_pattern(request) or self._rest
        request.route = route.path
        return route

    def _find_pattern(self, request: Request) -> Route | None:
        for pattern in self._patterns:
            if found := pattern.expression.fullmatch(request.path):
                request.parameters = found.groupdict()
                return pattern.route
        return None

    def refuse(self, request: Request | None, error: ChannelstreamError) -> Response:
        """Return the answer to a request that no handler gets, and report it; None if its head could not be read."""
        if request is None:
            return refusal(error, self.policy.cors(()))
        return self._refuse(request, error, self._of(request).policy.cors(request.headers))

    def _refuse(self, request: Request, error: ChannelstreamError, headers: Sequence[Header]) -> Response:
        report = self._of(request)._on_refusal
        report(request.method, request.route, error, self.policy.client(request.head))
        return refusal(error, headers)

    def _handler(self, route: Route, request: Request) -> Handler:
        """Return who answers requests with this head: the handler of its route, with what all answers have in common."""
        head, policy = request.head, self.policy
        try:
            if policy.enforces_https and not route.serves_plain_http:
                policy.check_transport(head)
        except ChannelstreamError as error:
            # Without its traceback, which refers to the request that will refer to this.
            return partial(self.refuse, error=error.with_traceback(None))
        cors = route.cors(head) if route.cors else policy.cors_of_all or policy.cors(head.headers)
        headers = cors + route.headers
        if head.method == "OPTIONS":
            answer = Response(b"", 200, headers, TEXT)
            return lambda _: answer
        handler = route.handlers.get(head.method) or route.handlers.get(ANY_METHOD)
        if handler is None:
            missing = NotFound.method(head.method, head.path, route.handlers)
            return partial(self._refuse, error=missing, headers=headers)
        return partial(self._answer, handler, headers)

    def _answer(
        self, handler: Handler, headers: tuple[Header, ...], request: Request
    ) -> Response | Awaitable[Response | None]:
        """Let a handler answer, at once or later (`_answer_later`).

        Raises:
            ClientGone: there is no one to answer.
        """
        try:
            answer = handler(request)
        except ClientGone:
            raise
        except Exception as error:
            return self._failed(request, error, headers)
        if not isinstance(answer, Response):
            return self._answer_later(answer, headers, request)
        return Response(answer.body, answer.status, headers + answer.headers, answer.content_type)

    async def _answer_later(
        self, awaited: Awaitable[Response | None], headers: tuple[Header, ...], request: Request
    ) -> Response | None:
        """Return the answer for which a handler has to wait; None if it has written it itself.

        Raises:
            ClientGone: there is no one to answer.
        """
        try:
            answer = await awaited
        except ClientGone:
            raise
        except Exception as error:
            return self._failed(request, error, headers)
        if answer is None:
            return None
        return Response(answer.body, answer.status, headers + answer.headers, answer.content_type)

    def _failed(self, request: Request, error: Exception, headers: Sequence[Header]) -> Response:
        """Return the answer for an error of a handler."""
        if not isinstance(error, ChannelstreamError):
            logger.error("a request failed: %s %s", request.method, request.path, exc_info=error)
            error = Internal()
        return self._refuse(request, error, headers)
