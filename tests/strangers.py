"""Strangers behind a proxy, each at an address of its own, and a server whose bounds they reach with a third request."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from tests.conftest import ADMIN_SECRET, RunningServer, launch
from tests.http_client import http
from tests.token_client import SECRET
from tests.waiting import PATIENCE_S

RATE = 0.02
"""What an address may do in a second: two at once, and the next one comes later than any test ends."""
PROXY = "127.0.0.2"

_numbers = iter(range(1, 250))


@contextmanager
def server_with_strangers(**environ: str) -> Iterator[RunningServer]:
    """Run a server, at the end of which its log has no traceback."""
    server = launch(
        "-s",
        SECRET,
        CHANNELSTREAM_TRUSTED_PROXIES=PROXY,
        CHANNELSTREAM_MAX_ADDRESS_STREAM_RATE=str(RATE),
        CHANNELSTREAM_TOKEN_MAX_AGE_S="3600",
        **environ,
    )
    server.secret = SECRET
    yield server
    code, log = server.stop()
    assert (code, "Traceback" in log) == (0, False), log


def new_address() -> str:
    """Return an address that has done nothing yet."""
    return f"198.51.100.{next(_numbers)}"


def through_proxy(server: RunningServer, address: str) -> httpx.Client:
    """Return a client whose requests the proxy sends on for this address."""
    return httpx.Client(
        base_url=server.url,
        transport=httpx.HTTPTransport(local_address=PROXY),
        headers={"x-forwarded-for": address},
        timeout=PATIENCE_S,
    )


def limited(server: RunningServer, what: str) -> float:
    """Return how often strangers were refused this, as the metrics say."""
    text = http.get(f"{server.url}/metrics", auth=("admin", ADMIN_SECRET)).text
    start = f'channelstream_address_limited_total{{what="{what}",worker="0"}} '
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))
