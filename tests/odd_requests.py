"""Draws what clients send: mostly legal requests, each with a chance of every oddity about where it ends."""

import random

LAST = b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"
"""Comes at the end twice, so that no reader waits for more; a body may be the same."""


def _spelled(text: str) -> list[bytes]:
    """One choice a line, the usual one first; `\\x20` keeps a space at the edge."""
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in text.strip("\n").split("\n")]


METHODS = _spelled("GET\nPOST\nPUT\nDELETE\nOPTIONS\nHEAD\nPATCH\nCONNECT\nTRACE\nFOO\nget\nM-SEARCH")
TARGETS = _spelled(r"""
/
/message
/early
/ws
/ws?conn_id=x
/sse?conn_id=x
http://other.example/absolute?x=1
*
x:443
//double
/%2e%2e/x
/a b
/\xc3\xa4
/\x00
/frag#ment
/tab\t
""")
VERSIONS = _spelled(
    "HTTP/1.1\nHTTP/1.0\nHTTP/1.0\nHTTP/1.2\nHTTP/2.0\nhttp/1.1\nHTTP/1.1\\x20\nHTTP/0.9\n\\x20"
)
UPGRADES = _spelled(r"""
Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n
Upgrade: foo\r\nConnection: upgrade\r\n
Connection: Upgrade\r\nUpgrade: websocket\r\n
Connection: keep-alive, upgrade\r\nUpgrade: WebSocket, foo\r\n
Upgrade: websocket\r\n
Connection: upgrade\r\n
Connection: upgrade\r\nUpgrade: \r\n
Connection: close, upgrade\r\nUpgrade: foo\r\n
Upgrade : foo\r\nConnection : upgrade\r\n
UPGRADE:foo\r\nCONNECTION:UPGRADE\r\n
Connection: upgrade\r\nConnection: close\r\nUpgrade: h2c\r\n
Connection: \r\n upgrade\r\nUpgrade: foo\r\n
Connection: xupgrade\r\nUpgrade: foo\r\n
Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n
""")
OTHERS = _spelled(r"""
Connection: close\r\n
Connection: keep-alive\r\n
Connection: keep-alive, close\r\n
Proxy-Connection: close\r\n
Connection: Close\r\n
Connection: close,\r\n
Connection: closed\r\n
Connection: content-length\r\n
Expect: 100-continue\r\n
Expect: foo\r\n
X: folded\r\n\tvalue\r\n
X: y\r\n Content-Length: 5\r\n
\x20X: y\r\n
X : y\r\n
X\r\n
: y\r\n
X: bare\nY: z\r\n
X: cr\rY: z\r\n
X: nul\x00\r\n
X: \xff\r\n
X:\r\n
\rX: y\r\n
X\x0b: y\r\n
X: \x0by\r\n
Trailer: Content-Length\r\n
Host: y\r\n
Content-Encoding: gzip\r\n
X(: y\r\n
\n
\r\r\n
""")
LENGTHS = _spelled(r"""
Content-Length: %d\r\n
content-length:%d\r\n
Content-Length: \t%d \t\r\n
Content-Length: +%d\r\n
Content-Length: 0%d\r\n
Content-Length: %d, %d\r\n
Content-Length: %d\r\nContent-Length: %d\r\n
Content-Length: %d\r\nContent-Length: 0\r\n
Content-Length: 0\r\nContent-Length: %d\r\n
Content-Length : %d\r\n
Content-Length: %d\n
Content-Length: 0x%x\r\n
Content-Length: -%d\r\n
Content-Length: %d.0\r\n
Content-Length: \r\n
Content-Length: \r\n %d\r\n
Content-Length: %d 0\r\n
Content_Length: %d\r\n
Content-Length: \x0b%d\r\n
Content-Length: 18446744073709551616%d\r\n
Content-Length: %d;\r\n
Content-Length: %d\r\n \r\n
Content-Length: %d,\r\n
Content-Length: 1_%d\r\n
\r\nContent-Length: %d\r\n
""")
CODING_FIELDS = _spelled(r"""
Transfer-Encoding:\x20
Transfer-Encoding:
transfer-encoding:\x20
Transfer-Encoding :\x20
Transfer_Encoding:\x20
\x20Transfer-Encoding:\x20
""")
CODINGS = _spelled(r"""
chunked
Chunked
\x20chunked\x20
chunked\t
gzip, chunked
chunked, gzip
gzip
identity
chunked, chunked
chunked\r\nTransfer-Encoding: chunked
gzip\r\nTransfer-Encoding: chunked
chunked\r\nTransfer-Encoding: identity
xchunked
chunked;q=1
"chunked"
\x0bchunked
chunked,
,chunked
chun\r\n ked
\r\n chunked
chunked\x00
\x20
cow
identity, chunked
chunked, identity
""")
SIZES = _spelled(r"""
%x
%X
0%x
%x;a=b
%x;a="b;c"
%x;
%x\x20
\x20%x
0x%x
+%x
%x;a=\x00
%x;a\n
%x\r
-%x
%x;\r
%x,
1%015x
""")
CHUNK_ENDS = _spelled("\\r\\n\n\\n\n\\r\nX\\r\\n\n\\r\\n\\r\\n")
LAST_CHUNKS = _spelled("0\n0;x\n00\n0\\x20")
TRAILERS = _spelled(r"""

X: y\r\n
Content-Length: 50\r\n
Transfer-Encoding: chunked\r\n
X : y\r\n
X: y\n
 X: y\r\n
\n
""")
BODIES = [
    b"",
    b"x",
    LAST,
    b"POST /message HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n",
    b"0\r\n\r\n" + LAST,
]
LINE_ENDS = [b"\r\n", b"\n", b"\r", b" \r\n"]
BETWEEN = [b"", b"\r\n", b"\n", b"\r\n\r\n"]


class OddClient:
    """A client that draws by a seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def data(self) -> bytes:
        """All that one connection carries."""
        count = self._draw.randint(1, 4)
        return b"".join(self._request() + self._some(BETWEEN, 3) for _ in range(count)) + LAST * 2

    def pieces(self, data: bytes) -> list[bytes]:
        """The same whole, byte by byte, or cut anywhere."""
        cuts = self._draw.choice([0, 0, 1, 2, 5, len(data)])
        places = range(len(data)) if cuts == len(data) else self._draw.choices(range(len(data)), k=cuts)
        at = sorted({0, *places})
        return [data[start:end] for start, end in zip(at, [*at[1:], len(data)], strict=True)]

    def _is_time(self, odds: int) -> bool:
        return self._draw.randrange(odds) == 0

    def _some(self, choices: list[bytes], odds: int) -> bytes:
        """The usual choice, but for one time in so many."""
        return self._draw.choice(choices) if self._is_time(odds) else choices[0]

    def _request(self) -> bytes:
        method = self._draw.choice(METHODS[:2]) if self._is_time(2) else self._some(METHODS, 3)
        line = b" ".join((method, self._some(TARGETS, 4), self._some(VERSIONS, 12)))
        framing, body = self._framed(self._draw.choice(BODIES))
        fields = [b"Host: x\r\n", *framing]
        if self._is_time(3):
            fields.append(self._draw.choice(UPGRADES))
        if self._is_time(8):
            fields.append(self._draw.choice(OTHERS))
        self._draw.shuffle(fields)
        return line + self._some(LINE_ENDS, 60) + b"".join(fields) + self._some(LINE_ENDS, 60) + body

    def _framed(self, body: bytes) -> tuple[list[bytes], bytes]:
        """The fields that say how long the body is, and the body as it is sent."""
        kind = self._draw.randrange(10)
        if kind < 2:
            return [], self._some([b"", body], 3)
        decimal, hexadecimal = str(len(body)).encode(), b"%x" % len(body)
        length = self._some(LENGTHS, 4).replace(b"%d", decimal).replace(b"%x", hexadecimal)
        if kind < 6:
            return [length], body
        coding = self._some(CODING_FIELDS, 8) + self._some(CODINGS, 4) + b"\r\n"
        return [coding, length] if self._is_time(10) else [coding], self._chunked(body)

    def _chunked(self, body: bytes) -> bytes:
        chunks = [body[:7], body[7:]] if self._is_time(2) else [body]
        parts = [
            self._some(SIZES, 8) % len(chunk) + b"\r\n" + chunk + self._some(CHUNK_ENDS, 10)
            for chunk in chunks
            if chunk
        ]
        return b"".join(parts) + self._some(LAST_CHUNKS, 8) + b"\r\n" + self._some(TRAILERS, 6) + b"\r\n"
