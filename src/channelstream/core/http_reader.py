"""Reads requests from the bytes of a connection, one at a time.

It never reads beyond the request in progress: the bytes after it may belong to another protocol, if a stream takes
over the socket.
"""

from channelstream.core.addresses import Peer
from channelstream.core.http_body import ChunkedBody
from channelstream.core.http_head import RequestHead, check_beginning, read_head
from channelstream.core.http_head_form import HeadForm, are_alike, form_of, in_form
from channelstream.errors import HeadTooLong

_EMPTY_LINE = b"\r\n"
_HEAD_END = b"\r\n\r\n"
REPEATED_BYTES = 1024
"""Longest head that is kept for the next request of the connection. Programs send the same one again but for values of
`http_head_form.CHANGING`, the signature of a call included, and to read it is a fifth of the cost of a call."""
REPEATED_FIELDS = 32
"""Most headers of such a head: of 97 short ones an idle connection would keep 25 KB, of 30 it keeps 10 (measured)."""


class RequestReader:
    """Buffers received bytes, and reads requests from them.

    Call `head` until it returns one, then `body` until `is_whole`; then the next request can be read. `take` does all of
    this at once for most requests.

    Attributes:
        has_more: received bytes are left to read.
        has_repeated: the head that `take` has returned is the one before, but for values of `http_head_form.CHANGING`.
        is_whole: the body of the last request was read to its end.
        has_stopped: `body` has more to return, after other work of the loop.
    """

    __slots__ = (
        "_at",
        "_chunked",
        "_client",
        "_data",
        "_form",
        "_has_skipped",
        "_head_bytes",
        "_last_bytes",
        "_last_head",
        "_last_text",
        "_left",
        "_scheme",
        "_seen",
        "has_more",
        "has_repeated",
        "has_stopped",
        "is_whole",
    )

    def __init__(self, head_bytes: int, client: Peer | None = None, scheme: str = "http") -> None:
        """Start without bytes.

        Args:
            head_bytes: longest head, and longest trailers.
            client: address and port of the peer; None for a unix socket.
            scheme: of the socket, `http` or `https`.
        """
        self._head_bytes = head_bytes
        self._client = client
        self._scheme = scheme
        self._data = b""
        self._at = 0
        self._seen = 0  # Index up to which the end of the head was searched.
        self._has_skipped = False
        self._chunked: ChunkedBody | None = None  # The body in progress, if it comes in chunks.
        self._left = 0  # Bytes left of any other body.
        self.has_more = self.has_stopped = self.has_repeated = False
        self.is_whole = True
        self._last_text = b""
        self._last_head: RequestHead | None = None  # What was read of this text; None if it is not kept.
        self._form: HeadForm | None = (
            None  # What the last two heads have in common; None if they differ otherwise.
        )
        self._last_bytes = -1
        """Length of a request with this head; -1 if there is none, or if its body comes in chunks."""

    @property
    def keeps_head(self) -> bool:
        """Whether the last head is kept, so that `take` may find it again."""
        return self._last_head is not None

    def take(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return head and body of a request that is all of the received bytes, as `receive`, `head` and `body` do.

        None for any other bytes, and where some wait to be read: these have to be called.

        Raises:
            BadRequest, HeadTooLong, UnsupportedCoding: as `read_head` does.
        """
        if self._data or not self.is_whole:
            return None
        head, end = self._last_head, len(self._last_text)
        if head is not None and len(data) == self._last_bytes and data.startswith(self._last_text):
            self.has_repeated = True
        else:
            end = data.find(_HEAD_END, 0, self._head_bytes) + len(_HEAD_END)
            if end < len(_HEAD_END) or data.startswith(_EMPTY_LINE):
                return None
            head = self._read(data[:end])
            if head.body_bytes is None or len(data) != end + head.body_bytes:
                return None
        self._has_skipped = False
        return head, data[end:]

    def receive(self, data: bytes) -> None:
        if self._data:
            self._seen -= self._at
            self._data = self._data[self._at :] + data
        else:
            self._seen = 0
            self._data = data
        self._at = 0
        self.has_more = bool(self._data)

    def head(self) -> RequestHead | None:
        """Return the next head; None if it is incomplete.

        Raises:
            BadRequest, UnsupportedCoding: as `read_head` does.
            HeadTooLong: it is longer than allowed, also if it is incomplete.
        """
        if self._data.startswith(_EMPTY_LINE, self._at):
            self._skip_empty_line()
        data, at = self._data, self._at
        if not data:
            return None
        end = data.find(_HEAD_END, max(at, self._seen - len(_HEAD_END) + 1))
        if (len(data) if end < 0 else end + len(_HEAD_END)) - at > self._head_bytes:
            raise HeadTooLong("The head of the request is too long; see the option max_head_bytes.")
        if end < 0:
            check_beginning(data, at, max(at, self._seen - 1))
            self._seen = len(data)
            return None
        end += len(_HEAD_END)
        head = self._read(data[at:end])
        self._has_skipped = False
        self._move(end)
        size = head.body_bytes
        self._left = size or 0
        self._chunked = ChunkedBody(self._head_bytes) if size is None else None
        self.is_whole = size == 0
        self.has_stopped = False
        return head

    def _read(self, data: bytes) -> RequestHead:
        """Read a head, unless it is the one before, or has the form of those before.

        It is kept for the next request if it is short enough, and has few headers.
        """
        head, form, last = None, self._form, self._last_head
        if last is not None:
            if data == self._last_text:
                self.has_repeated = True
                return last
            if form is not None:
                head = in_form(data, form, last)
        self.has_repeated = head is not None
        if head is None:
            head = read_head(data, self._client, self._scheme)
            form = form_of(data, head) if last is not None and are_alike(head, last) else None
        is_kept = len(data) <= REPEATED_BYTES and len(head.headers) <= REPEATED_FIELDS
        self._last_text, self._last_head, self._form = (data, head, form) if is_kept else (b"", None, None)
        self._last_bytes = len(data) + head.body_bytes if is_kept and head.body_bytes is not None else -1
        return head

    def body(self) -> bytes:
        """Return the bytes of the body received since the last call, at most one step.

        Raises:
            BadRequest, HeadTooLong: a chunk or a trailer breaks the protocol or a bound.
        """
        if self._chunked is not None:
            return self._chunk(self._chunked)
        at = self._at
        part = self._data[at : at + self._left]
        self._left -= len(part)
        self.is_whole = not self._left
        self._move(at + len(part))
        return part

    def _chunk(self, body: ChunkedBody) -> bytes:
        part, at = body.read(self._data, self._at)
        self.is_whole, self.has_stopped = body.is_complete, body.has_stopped
        self._move(at)
        return part

    @property
    def unread(self) -> bytes:
        """The received bytes that are not read."""
        return self._data[self._at :]

    def _skip_empty_line(self) -> None:
        """Skip one empty line, which some clients send after a body (RFC 9112, 2.2)."""
        if not self._has_skipped:
            self._has_skipped = True
            self._move(self._at + len(_EMPTY_LINE))

    def _move(self, at: int) -> None:
        self.has_more = at < len(self._data)
        if self.has_more:
            self._at = self._seen = at
        else:
            self._data = b""
            self._at = self._seen = 0
