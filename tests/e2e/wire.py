"""The three transports read from their bytes, as a client that knows only the specifications would."""

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any, ClassVar

LONGEST = 1 << 21
"""Bytes a head, a frame or a block may have; more is a fault."""
KEY = base64.b64encode(bytes(16))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
TEXT, CLOSE, PING = 0x81, 0x88, 0x89
Items = list[Any]


class Ended(Exception):
    """The server ended the stream, with this close code or HTTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Wire:
    """One connection through a line.

    Attributes:
        answers_once: each list has to be asked for.
    """

    answers_once: ClassVar[bool] = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, conn_id: str, since: str) -> None:
        """Send what opens a stream that resumes from `since`.

        Raises:
            Ended: the server refused.
        """
        raise NotImplementedError

    async def items(self) -> Items:
        """Read the next whole list.

        Raises:
            Ended: the server closed the stream in the protocol's way.
            ConnectionError, asyncio.IncompleteReadError: the line was cut.
        """
        raise NotImplementedError

    async def close(self) -> None:
        self._writer.transport.abort()

    def _get(self, target: str, *headers: str) -> None:
        lines = (f"GET {target} HTTP/1.1", "Host: test", *headers, "", "")
        self._writer.write("\r\n".join(lines).encode())

    async def _head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer: its status and its fields, with names in lower case."""
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        return int(status.split()[1]), {name.lower(): value for name, value in fields.items()}


class WebSocketWire(Wire):
    """RFC 6455."""

    async def ask(self, conn_id: str, since: str) -> None:
        self._get(
            f"/ws?conn_id={conn_id}&since={since}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY.decode()}",
            "Sec-WebSocket-Version: 13",
        )
        status, fields = await self._head()
        assert (status, fields["sec-websocket-accept"]) == (101, ACCEPT.decode())

    async def items(self) -> Items:
        while True:
            first, payload = await self._frame()
            if first == CLOSE:
                raise Ended(int.from_bytes(payload[:2], "big"))
            if first == PING:
                self._writer.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            else:
                assert first == TEXT, first
                return json.loads(payload)  # type: ignore[no-any-return]

    async def _frame(self) -> tuple[int, bytes]:
        first, size = await self._reader.readexactly(2)
        if size >= 126:
            form = "!H" if size == 126 else "!Q"
            (size,) = struct.unpack(form, await self._reader.readexactly(struct.calcsize(form)))
        return first, await self._reader.readexactly(size)


class EventStreamWire(Wire):
    """Server-sent events, which say the position again as the id of each block."""

    async def ask(self, conn_id: str, since: str) -> None:
        # An empty header says nothing (HTML, 9.2.4), so that a client without a position says so in the query.
        self._get(f"/sse?conn_id={conn_id}&since=", *([f"Last-Event-ID: {since}"] if since else []))
        status, _ = await self._head()
        if status != 200:
            raise Ended(status)

    async def items(self) -> Items:
        lines = (await self._reader.readuntil(b"\n\n")).decode().splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line)
        items: Items = json.loads(fields["data"])
        positions = [item["position"] for item in items if "position" in item]
        assert fields.get("id") == (positions[-1] if positions else None)
        return items


class PollWire(Wire):
    """Long polls, one after the other over one connection for as long as it lasts."""

    answers_once = True

    async def ask(self, conn_id: str, since: str) -> None:
        self._get(f"/listen?conn_id={conn_id}&since={since}")

    async def items(self) -> Items:
        status, fields = await self._head()
        body = json.loads(await self._reader.readexactly(int(fields["content-length"])))
        if isinstance(body, list):
            return body
        raise Ended(body.get("close_code", status))


class CallWire(Wire):
    """Calls of the API, one after the other: a tenth of what an HTTP library takes of the processor."""

    async def post(
        self, path: str, body: object, signature: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Call, and return the status of the answer, its fields and its body.

        Raises:
            ConnectionError, asyncio.IncompleteReadError: the line was cut.
        """
        content = json.dumps(body).encode()
        fields = {"Host": "test", "Content-Length": str(len(content)), **signature}
        lines = (f"POST {path} HTTP/1.1", *map(": ".join, fields.items()), "", "")
        self._writer.write("\r\n".join(lines).encode() + content)
        status, answered = await self._head()
        return status, answered, await self._reader.readexactly(int(answered["content-length"]))


WIRES: dict[str, type[Wire]] = {"ws": WebSocketWire, "sse": EventStreamWire, "poll": PollWire}


async def open_calls(port: int) -> CallWire:
    return CallWire(*await asyncio.open_connection("127.0.0.1", port, limit=LONGEST))


async def open_wire(transport: str, port: int) -> Wire:
    return WIRES[transport](*await asyncio.open_connection("127.0.0.1", port, limit=LONGEST))
