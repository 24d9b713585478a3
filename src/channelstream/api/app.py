"""The API as an ASGI application: find the endpoint, check access, read the body, answer."""

import logging
from collections.abc import Iterable, Sequence

from channelstream.api.call import Call
from channelstream.api.table import Endpoint
from channelstream.api.walker import Walker
from channelstream.asgi import (
    ClientGone,
    Head,
    Parts,
    Receive,
    Scope,
    Send,
    answer,
    answer_in_parts,
    encode,
    read_body,
    refuse,
)
from channelstream.auth.base import RequestAuth
from channelstream.core.policy import Header, Policy, header
from channelstream.errors import ChannelstreamError, Internal, Malformed, NotFound, UnsupportedEncoding
from channelstream.node import Services

UNSIGNED_BODY_BYTES = 4096
"""Longest body of a call that needs no signature."""

logger = logging.getLogger(__name__)


class Api:
    """Serves the endpoints of a table."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        services: Services,
        signed: RequestAuth,
        unsigned: RequestAuth,
        policy: Policy,
        body_bytes: int,
    ) -> None:
        """Create the API.

        Args:
            signed: authenticates the calls of rows that are signed.
            unsigned: authenticates the others.
        """
        self._rows = {(row.path, method): row for row in endpoints for method in row.methods}
        self.paths = frozenset(path for path, _ in self._rows)
        self._services = services
        self._auths = {True: signed, False: unsigned}
        self._policy = policy
        self._body_bytes = body_bytes
        self._walker = Walker()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cors = self._policy.cors(scope["headers"])
        if scope["method"] == "OPTIONS":
            await answer(scope, send, 200, b"", cors, b"text/plain")
            return
        try:
            result = await self._serve(scope, receive)
            body = result if isinstance(result, Parts) else encode(result)
        except ChannelstreamError as error:
            await refuse(scope, send, error, cors)
        except ClientGone:
            logger.debug("a client disconnected before its request was complete")
        except Exception:
            logger.exception("an API call failed: %s %s", scope["method"], scope["path"])
            await refuse(scope, send, Internal(), cors)
        else:
            await _answer(scope, send, body, cors)

    async def _serve(self, scope: Scope, receive: Receive) -> object:
        row = self._rows.get((scope["path"], scope["method"]))
        if row is None:
            methods = [method for path, method in self._rows if path == scope["path"]]
            raise NotFound.method(scope["method"], scope["path"], methods)
        auth = self._auths[row.signed]
        principal = auth.principal(Head(scope, self._policy))
        limit = self._body_bytes if row.signed else min(UNSIGNED_BODY_BYTES, self._body_bytes)
        body = await read_body(scope, receive, limit)
        auth.verify_body(principal, body)
        try:
            return await row.handler(Call(self._services.of(principal.app), scope, body, self._walker))
        except Malformed:
            # Checked only when the body is not JSON: a good request pays nothing for it.
            _check_encoding(scope)
            raise


async def _answer(scope: Scope, send: Send, body: bytes | Parts, cors: Sequence[Header]) -> None:
    if isinstance(body, Parts):
        await answer_in_parts(scope, send, body, cors)
    else:
        await answer(scope, send, 200, body, cors)


def _check_encoding(scope: Scope) -> None:
    encoding = header(scope["headers"], b"content-encoding")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedEncoding(
            "Send the body uncompressed, without Content-Encoding: this server does not decompress."
        )
