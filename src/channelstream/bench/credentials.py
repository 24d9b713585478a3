"""What each form of credentials costs a server: `python -m channelstream.bench.credentials`.

The forms take turns in one run, on one connection, with the same small message: a call of `/message`, or of `/client` for
a client with a token. All requests of a turn are built before its clock starts, so that the figures are those of the server.
"""

import argparse
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import jwt
from itsdangerous import TimestampSigner

from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Stopwatch, Target
from channelstream.bench.question import answer, options_of, positive
from channelstream.bench.servers import product
from channelstream.bench.wire import Wire
from channelstream_client.signing import digest_of, sign

PATH = "/message"
BODY = b'[{"channel":"credentials","user":"bench","message":{"text":"hello"}}]'
COMMAND = b'{"id":1,"type":"publish","channel":"credentials","message":{"text":"hello"}}'
TOKEN_AGE_S = 86_400
KEPT = ("--token-max-age-s", str(TOKEN_AGE_S), "--poll-gap-s", str(TOKEN_AGE_S))
"""Lets the client with a token, which sends no further long poll, keep its connection during all turns."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes the calls.

    Attributes:
        token, conn_id: those of a client with a token.
    """

    wire: Wire
    token: str = ""
    conn_id: str = ""

    def message(self, headers: bytes) -> bytes:
        return self.wire.post(PATH, BODY, headers)

    def command(self) -> bytes:
        return self.wire.post(f"/client?conn_id={self.conn_id}", COMMAND, _bearer(self.token))


def _bearer(text: str) -> bytes:
    return f"authorization: Bearer {text}\r\n".encode()


def _old_text(wire: Wire) -> bytes:
    """Return an old signature of a text that no other call has, so that the server remembers none of it."""
    token = TimestampSigner(wire.secret).sign(f"call-{secrets.token_hex(8)}").decode()
    return f"x-channelstream-secret: {token}\r\n".encode()


def _signed(wire: Wire) -> bytes:
    value = sign("", wire.secret, "POST", PATH, int(time.time()), secrets.token_urlsafe(16), BODY)
    return f"authorization: {value}\r\ncontent-digest: {digest_of(BODY)}\r\n".encode()


FORMS: dict[str, Callable[[Caller], bytes]] = {
    "old, of the path": lambda caller: caller.message(caller.wire.signature(PATH)),
    "old, each another text": lambda caller: caller.message(_old_text(caller.wire)),
    "bearer": lambda caller: caller.message(_bearer(f".{caller.wire.secret}")),
    "signed": lambda caller: caller.message(_signed(caller.wire)),
    "token": Caller.command,
}
"""A request of each form. A server verifies an old signature of the path once a second."""


def _known_channel(wire: Wire) -> bytes:
    """Return the call that makes the channel: clients with tokens may bring only so many into being."""
    path = "/channel_config"
    return wire.post(path, b'{"credentials":{}}', wire.signature(path))


async def _with_token(wire: Wire, connection: HttpConnection) -> Caller:
    """Return a caller that has a token too, and the connection that its first long poll has opened."""
    claims = {"sub": "bench", "exp": time.time() + TOKEN_AGE_S - 60, "publish": ["credentials"]}
    token = jwt.encode(claims, wire.secret, "HS256")
    greeting, *_ = json.loads(await connection.call(wire.get("/listen", _bearer(token))))
    return Caller(wire, token, greeting["result"]["conn_id"])


async def cost_us(
    target: Target, connection: HttpConnection, caller: Caller, form: str, calls: int
) -> tuple[float, float]:
    """Return the server's CPU and the time of a call in one form, in microseconds.

    Raises:
        BenchFailed: a message is not accepted.
    """
    requests = [FORMS[form](caller) for _ in range(calls)]
    answer = b""
    watch = Stopwatch(target)
    with watch:
        for request in requests:
            answer = await connection.call(request)
    # A command that is refused is answered with 200, and all of a turn are the same.
    if b'"error"' in answer:
        raise BenchFailed(f"{form}: {answer.decode()}")
    return watch.rate(calls).cpu_us_each or 0.0, watch.seconds / calls * 1e6


async def compare(flags: list[str], calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the medians of CPU and time of a call for each form, in microseconds, of turns that alternate."""
    figures: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    async with product(*KEPT, *flags) as target:
        connection = await open_http(target.wire, None)
        try:
            await connection.call(_known_channel(target.wire))
            caller = await _with_token(target.wire, connection)
            for _ in range(rounds):
                for form, measured in figures.items():
                    measured.append(await cost_us(target, connection, caller, form, calls))
        finally:
            connection.close()
    return {
        form: (median(cpu for cpu, _ in rows), median(took for _, took in rows))
        for form, rows in figures.items()
    }


async def _run(options: argparse.Namespace) -> None:
    rows = await compare(options.flag, options.calls, options.rounds)
    print(f"{'form':24}{'CPU us/call':>12}{'us/call':>10}")
    for form, (cpu_us, took_us) in rows.items():
        print(f"{form:24}{cpu_us:12.1f}{took_us:10.1f}")


def main() -> None:
    options = options_of("credentials", __doc__)
    options.add_argument("--calls", type=positive, default=2_000, help="calls of each turn")
    options.add_argument("--rounds", type=positive, default=9, help="turns of each form")
    answer(options, _run)


if __name__ == "__main__":
    main()
