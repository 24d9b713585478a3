"""What each form of credentials costs a server: `python -m channelstream.bench.credentials`.

The forms take turns in one run, on one connection, with the same small call of `/message`. All requests of a turn are
built before its clock starts, so that the figures are those of the server.
"""

import argparse
import secrets
import time
from collections.abc import Callable
from statistics import median

import uvloop
from itsdangerous import TimestampSigner

from channelstream.bench.http import HttpConnection, open_http
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.servers import product
from channelstream.bench.wire import Wire
from channelstream_client.signing import digest_of, sign

PATH = "/message"
BODY = b'[{"channel":"credentials","user":"bench","message":{"text":"hello"}}]'


def _old_text(wire: Wire) -> bytes:
    """Return an old signature of a text that no other call has, so that the server remembers none of it."""
    token = TimestampSigner(wire.secret).sign(f"call-{secrets.token_hex(8)}").decode()
    return f"x-channelstream-secret: {token}\r\n".encode()


def _signed(wire: Wire) -> bytes:
    value = sign("", wire.secret, "POST", PATH, int(time.time()), secrets.token_urlsafe(16), BODY)
    return f"authorization: {value}\r\ncontent-digest: {digest_of(BODY)}\r\n".encode()


FORMS: dict[str, Callable[[Wire], bytes]] = {
    "old, of the path": lambda wire: wire.signature(PATH),
    "old, each another text": _old_text,
    "bearer": lambda wire: f"authorization: Bearer .{wire.secret}\r\n".encode(),
    "signed": _signed,
}
"""The header line of each form. A server verifies an old signature of the path once a second."""


async def cost_us(target: Target, connection: HttpConnection, form: str, calls: int) -> tuple[float, float]:
    """Return the server's CPU and the time of a call in one form, in microseconds."""
    wire = target.wire
    requests = [wire.post(PATH, BODY, FORMS[form](wire)) for _ in range(calls)]
    began_s, before_s = time.perf_counter(), target.cpu_s() or 0.0
    for request in requests:
        await connection.call(request)
    cpu_s, took_s = (target.cpu_s() or 0.0) - before_s, time.perf_counter() - began_s
    return cpu_s / calls * 1e6, took_s / calls * 1e6


async def compare(flags: list[str], calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the medians of CPU and time of a call for each form, in microseconds, of turns that alternate."""
    figures: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    async with product(*flags) as target:
        connection = await open_http(target.wire, None)
        try:
            for _ in range(rounds):
                for form, measured in figures.items():
                    measured.append(await cost_us(target, connection, form, calls))
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
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--calls", type=int, default=2_000, help="calls of each turn")
    reader.add_argument("--rounds", type=int, default=9, help="turns of each form")
    reader.add_argument("--flag", nargs="*", default=[], help="options of the server, such as --engine=...")
    try:
        uvloop.run(_run(reader.parse_args()))
    except BenchFailed as error:
        raise SystemExit(f"credentials: {error}") from error


if __name__ == "__main__":
    main()
