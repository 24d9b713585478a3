"""One file that browsers load, with its compressed form."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from channelstream.pages.encodings import accepts_gzip

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The types of the files that are served, by their suffixes."""
PART_BYTES = 65_536
"""How much of a long file is written before a slow client has read it."""


class Asset:
    """A file, which is read and compressed at the first request for it, once in a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._media_type = TYPES[path.suffix]
        self._lock = Lock()
        self._forms: dict[bool, tuple[bytes, str]] = {}
        """The bytes and the entity tag: compressed, and as they are."""

    async def answer(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the form that the browser accepts, or 304 if it has it already (RFC 9110, 13.1.2).

        Args:
            headers: further headers of the answer.
        """
        if not self._forms:
            # In a thread: to compress the longest file takes the time of several loop turns.
            await asyncio.to_thread(self._load)
        is_packed = accepts_gzip(request.headers.get("accept-encoding", ""))
        body, tag = self._forms[is_packed]
        fields = {**headers, "ETag": tag, "Vary": "Accept-Encoding"}
        if tag in _tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=fields)
        fields["Content-Length"] = str(len(body))
        if is_packed:
            fields["Content-Encoding"] = "gzip"
        if len(body) <= PART_BYTES:
            return Response(body, headers=fields, media_type=self._media_type)
        return StreamingResponse(_parts(body), headers=fields, media_type=self._media_type)

    def _load(self) -> None:
        with self._lock:
            if not self._forms:
                content = self._path.read_bytes()
                tag = sha256(content).hexdigest()[:16]
                packed = gzip.compress(content, mtime=0)
                self._forms = {False: (content, f'"{tag}"'), True: (packed, f'"{tag}-gzip"')}


def _tags(header: str) -> set[str]:
    """Return the entity tags of a list. A proxy may have made them weak, which means nothing here (RFC 9110, 8.8.3.2)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


async def _parts(body: bytes) -> AsyncIterator[memoryview]:
    """Yield a long body without a copy of it for each client."""
    view = memoryview(body)
    for start in range(0, len(body), PART_BYTES):
        yield view[start : start + PART_BYTES]
