"""Calls of the REST API of Pusher's protocol, which the server of an application signs in the query.

The signature is over method, path and query (`core.pusher_signing`), and the query has the hash of the body: so the head
proves a request before its body is read. SDKs differ in what they sign: the query with or without the escapes that they
send, and the path with or without what a proxy adds or takes away. Each of these forms is accepted.

A signature may be shown again within `MAX_SKEW_S`: the protocol has nothing that only one request has.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from channelstream.apps.app import App
from channelstream.apps.principal import Principal, Right
from channelstream.apps.pusher_app import PusherApp
from channelstream.auth.access import AppAccess, check_address
from channelstream.auth.base import AuthRequest
from channelstream.auth.keyed import OnOlder
from channelstream.core.pusher_signing import body_md5, is_genuine, request_text
from channelstream.core.query import MAX_FIELDS
from channelstream.errors import BadSignature, NotFound

MAX_SKEW_S = 600.0
"""How far the time of a signature may be from that of the server (Pusher's documentation of its HTTP API)."""
RIGHTS = frozenset({Right.PUBLISH, Right.INFO, Right.CONNECT})
"""What the calls of this API need: to publish, to read, and to end connections."""

_APP_ID = re.compile(r".*?/apps/([^/]+)/.*", re.DOTALL)
_TIME = re.compile(r"[0-9]{1,12}")
_SIGNATURE = "auth_signature"
SIGNED_WITH = "the `pusher_key` and `pusher_secret` of the server"
"""The options that a caller whose signature is refused must know."""
_Pairs = list[tuple[str, str]]


class _Application(NamedTuple):
    """An application that speaks the protocol."""

    pusher: PusherApp
    principal: Principal


class PusherAuth:
    """Admits the servers of applications that have an id, a key and a secret of Pusher (`auth.base.RequestAuth`)."""

    def __init__(
        self,
        apps: Iterable[App],
        access: Mapping[str, AppAccess],
        wall: Callable[[], float],
        on_older: OnOlder = lambda app_id, address: None,
    ) -> None:
        """Create the scheme for some applications.

        Args:
            access: the rules of each application, by its id.
            wall: returns epoch seconds.
            on_older: called for each call with an older secret, with the id of its application and the caller's address.
        """
        self._on_older = on_older
        self._access = access
        self._wall = wall
        self._apps = {
            app.pusher.id: _Application(app.pusher, Principal(app, RIGHTS, app.pusher.key_id))
            for app in apps
            if app.pusher is not None
        }

    def principal(self, request: AuthRequest) -> Principal:
        """Return the principal of a request, whose path names the application.

        Raises:
            Forbidden: the address may not call.
            NotFound: no application has the id in the path.
            BadSignature: the credentials are not valid.
        """
        application = self._application(request)
        sent = _pairs(request.query)
        pairs = _unescaped(sent) if b"%" in request.query or b"+" in request.query else sent
        found = _first(pairs)
        key, time_s = found.get("auth_key", ""), found.get("auth_timestamp", "")
        if not hmac.compare_digest(key.encode(), application.pusher.key.encode()):
            raise BadSignature(SIGNED_WITH)
        if found.get("auth_version") != "1.0" or not self._is_timely(time_s):
            raise BadSignature(SIGNED_WITH)
        mac = found.get(_SIGNATURE, "")
        for number, secret in enumerate(application.pusher.secrets.accepted):
            texts = _texts(request, application.pusher, pairs, sent)
            if any(is_genuine(secret, text, mac) for text in texts):
                if number:
                    self._on_older(application.principal.app.id, request.address)
                return application.principal
        raise BadSignature(SIGNED_WITH)

    def _application(self, request: AuthRequest) -> _Application:
        address = request.address
        check_address(address, self._access.values())
        named = _APP_ID.fullmatch(request.path)
        application = self._apps.get(named[1]) if named else None
        if application is None:
            raise NotFound("There is no application with this id: check the option pusher_app_id.")
        check_address(address, [self._access[application.principal.app.id]])
        return application

    def _is_timely(self, time_s: str) -> bool:
        return _TIME.fullmatch(time_s) is not None and abs(int(time_s) - self._wall()) <= MAX_SKEW_S

    def verify_body(self, request: AuthRequest, body: bytes) -> None:
        """Accept the body whose hash was signed; a request without a body needs none.

        Raises:
            BadSignature: it is not the body that was signed.
        """
        signed = _first(_pairs(request.query)).get("body_md5")
        if signed is None and not body:
            return
        if signed is None or not hmac.compare_digest(signed.lower().encode(), body_md5(body).encode()):
            raise BadSignature(SIGNED_WITH)


def _texts(request: AuthRequest, pusher: PusherApp, pairs: _Pairs, sent: _Pairs) -> Iterator[str]:
    """Yield each text that the caller may have signed, the most frequent one first."""
    raw_path = request.target.partition(b"?")[0].decode("ascii")
    ends = [_behind_prefix(path) for path in (raw_path, request.path)]
    paths = dict.fromkeys(root + end for root in ("", request.root, pusher.path_prefix) for end in ends)
    queries = [_unsigned(pairs)] if pairs == sent else [_unsigned(pairs), _unsigned(sent)]
    for path in paths:
        for query in queries:
            yield request_text(request.method, path, query)


def _behind_prefix(path: str) -> str:
    """Return the path without what precedes it here."""
    _, apps, end = path.partition("/apps/")
    return apps + end if apps else path


def _pairs(query: bytes) -> _Pairs:
    """Return the parameters of a query as they were sent.

    Raises:
        BadSignature: they are too many.
    """
    parts = [part.partition("=") for part in query.decode("ascii").split("&") if part]
    if len(parts) > MAX_FIELDS:
        raise BadSignature(SIGNED_WITH)
    return [(name, value) for name, _, value in parts]


def _unescaped(pairs: _Pairs) -> _Pairs:
    return [(unquote_plus(name), unquote_plus(value)) for name, value in pairs]


def _unsigned(pairs: _Pairs) -> _Pairs:
    """Return the parameters without the signature."""
    return [(name, value) for name, value in pairs if name.lower() != _SIGNATURE]


def _first(pairs: _Pairs) -> dict[str, str]:
    """Return the first value of each name, in lower case."""
    return {name.lower(): value for name, value in reversed(pairs)}
