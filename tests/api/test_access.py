"""Access: addresses, signatures and the secret in the query, checked before the body is read."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from itsdangerous import TimestampSigner
from tests.http_client import http
from tests.waiting import PATIENCE_S

from channelstream.errors import BadSignature

HEADER = "x-channelstream-secret"
EPOCH_2011_S = 1_293_840_000
BAD = BadSignature().body


class ShiftedSigner(TimestampSigner):
    """A signer whose clock is off by so many seconds."""

    def __init__(self, secret: str, ahead_s: int) -> None:
        super().__init__(secret)
        self.ahead_s = ahead_s

    def get_timestamp(self) -> int:
        return super().get_timestamp() + self.ahead_s


def token(server: Any, text: str = "/info", ahead_s: int = 0, secret: str = "") -> str:
    return ShiftedSigner(secret or server.secret, ahead_s).sign(text).decode()


def ask(server: Any, given: str | None, query: str = "", **headers: str) -> httpx.Response:
    """Ask for /info with this in the header of signatures, or without the header."""
    signature = {} if given is None else {HEADER: given}
    return http.post(server.url + "/info" + query, headers=signature | headers)


def test_a_request_without_credentials_is_forbidden(server: Any) -> None:
    """403: neither a header nor a query, an empty one of either, and an empty header before a good query."""
    good = token(server)
    answers = [
        ask(server, None),
        ask(server, ""),
        ask(server, None, "?secret="),
        ask(server, "", f"?secret={good}"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert all(f"authorization or {HEADER};" in answer.json()["error"] for answer in answers)


@pytest.mark.parametrize(
    ("text", "ahead_s", "status"),
    [
        ("/info", 0, 200),
        ("channelstream", 0, 200),
        ("/connect", 0, 401),
        ("/info", -50, 200),
        ("/info", -70, 401),
        ("/info", 50, 200),
        ("/info", 70, 401),
        ("/info", 10**7, 401),
        ("/info", -EPOCH_2011_S, 200),
        ("/info", -EPOCH_2011_S - 70, 401),
        ("/info", -EPOCH_2011_S + 70, 401),
    ],
)
def test_a_signature_is_valid_for_its_path_and_its_minute(
    server: Any, text: str, ahead_s: int, status: int
) -> None:
    """The path or a text without a slash, a minute each way, counted from 1970 or from 2011."""
    given = token(server, text, ahead_s)
    for answer in (ask(server, given), ask(server, None, f"?secret={given}")):
        assert answer.status_code == status
        assert status == 200 or answer.json() == BAD


def test_a_bad_signature_reveals_nothing(server: Any) -> None:
    """401 with one answer for all faults, the raw secret in the header among them. It names the option that signs."""
    assert "with the `secret` of the server" in BAD["error"]
    good = token(server)
    for given in ("x", good[:-1], good + "x", good.replace("/info", "/message"), server.secret, "x" * 5000):
        answer = ask(server, given)
        assert (answer.status_code, answer.json()) == (401, BAD)
    assert ask(server, token(server, secret="another secret")).json() == BAD


def test_a_header_counts_before_the_query(server: Any) -> None:
    """Whatever it holds."""
    assert ask(server, "x", f"?secret={token(server)}").status_code == 401
    assert ask(server, token(server), "?secret=x").status_code == 200


def test_bytes_that_are_no_text_are_a_bad_signature(server: Any) -> None:
    """In the header and in the query."""
    request = httpx.Request("POST", server.url + "/info", headers=[(HEADER.encode(), b"\xff\xfe.\xc3")])
    with httpx.Client(verify=False, timeout=PATIENCE_S) as client:
        assert client.send(request).status_code == 401
    assert ask(server, None, "?secret=%ff%00%ed%a0%80").status_code == 401


@pytest.mark.parametrize("path", ["/connect", "/subscribe", "/unsubscribe", "/user_state", "/user_status"])
def test_every_endpoint_requires_its_own_signature(server: Any, path: str) -> None:
    """And a signature for another one opens none of them."""
    assert http.post(server.url + path, json={}).status_code == 403
    assert http.post(server.url + path, json={}, headers={HEADER: token(server)}).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_every_method_requires_a_signature(server: Any, method: str) -> None:
    """Of /message."""
    assert http.request(method, server.url + "/message", json=[]).status_code == 403


def test_disconnect_needs_no_signature(server: Any) -> None:
    """The conn_id is the credential."""
    assert http.post(server.url + "/disconnect", json={"conn_id": "access-unknown"}).json() is False


def test_an_unsigned_request_is_refused_before_its_body_is_read(server: Any) -> None:
    """A body is announced and never sent; the answer does not wait for it."""
    for signature, status in (("", b"403"), (f"{HEADER}: bad\r\n", b"401")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
            head = f"POST /message HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n{signature}\r\n"
            raw.sendall(head.encode())
            assert raw.recv(4096).split(b" ")[1] == status


def test_an_unsigned_request_learns_nothing_about_its_body(server: Any) -> None:
    """Signatures come before JSON."""
    headers = {HEADER: "bad"}
    assert http.post(server.url + "/message", content=b"{", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("mode", "local", "remote"), [("loopback", 200, 401), ("always", 200, 200), ("never", 401, 401)]
)
def test_the_secret_in_the_query_is_accepted_as_the_option_says(
    start_server: Any, mode: str, local: int, remote: int
) -> None:
    """From this machine only, from all addresses or from none, as the option says; a similar secret never."""
    flags = ["--trusted-proxies", "127.0.0.1", "--allow-posting-from", "0.0.0.0"]
    server = start_server("--raw-secret-in-query", mode, *flags)
    query = f"?secret={server.secret}"
    assert ask(server, None, query).status_code == local
    assert ask(server, None, query, **{"x-forwarded-for": "192.0.2.1"}).status_code == remote
    assert ask(server, None, query + "x").status_code == 401
    _, log = server.stop()
    assert server.secret not in "".join(server.lines) + log


@pytest.mark.parametrize(
    ("allowed", "welcome", "refused"),
    [
        ("127.0.0.1", [""], ["192.0.2.1"]),
        ("192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["", "192.0.2.2", "no address"]),
        ("192.0.2.1", ["203.0.113.9, 192.0.2.1", "192.0.2.1, 127.0.0.1"], ["192.0.2.1, 203.0.113.9"]),
        (
            "192.0.2.1",
            ["192.0.2.1:51008", "[::ffff:192.0.2.1]:443"],
            ["192.0.2.1:", "unknown", "[192.0.2.1]"],
        ),
        ("192.0.2.0/24,198.51.100.7", ["192.0.2.77", "198.51.100.7"], ["192.0.3.1", "198.51.100.8"]),
        ("2001:db8::/32", ["2001:db8:1::5", "2001:0DB8::1"], ["2001:db9::5", "192.0.2.1"]),
        ("0.0.0.0", ["203.0.113.9", "2001:db8::9", ""], []),
    ],
)
def test_the_address_behind_a_trusted_proxy_counts(
    start_server: Any, allowed: str, welcome: list[str], refused: list[str]
) -> None:
    """The last hop that is no trusted proxy must be among the allowed addresses and networks."""
    server = start_server("--trusted-proxies", "127.0.0.1", "--allow-posting-from", allowed)
    for status, callers in ((200, welcome), (403, refused)):
        for caller in callers:
            headers = {"x-forwarded-for": caller} if caller else {}
            assert ask(server, token(server), **headers).status_code == status, caller


def test_forwarded_of_a_trusted_proxy_counts(start_server: Any) -> None:
    """The standard header counts like the older one; a hidden, malformed or contradicted item is no allowed address."""
    server = start_server("--trusted-proxies", "127.0.0.1", "--allow-posting-from", "192.0.2.1,2001:db8::1")
    listed = {"x-forwarded-for": "192.0.2.1"}
    for status, headers in (
        (200, {"forwarded": "for=203.0.113.9, for=192.0.2.1;proto=https"}),
        (200, {"forwarded": 'for="[2001:db8::1]:443";by=_proxy, for=127.0.0.1'}),
        (200, {"forwarded": 'for="192.0.2.1:8"'} | listed),
        (403, {"forwarded": "for=192.0.2.1, for=203.0.113.9"}),
        (403, {"forwarded": "for=192.0.2.1, for=_hidden"}),
        (403, {"forwarded": 'for=192.0.2.1;x=", for=203.0.113.9'}),
        (403, {"forwarded": "for=203.0.113.9"} | listed),
    ):
        assert ask(server, token(server), **headers).status_code == status, headers


def test_the_throttle_ignores_the_port_that_a_proxy_names(start_server: Any) -> None:
    """The throttle of the sign-in form counts addresses: a fourth attempt at once is refused."""
    server = start_server("--trusted-proxies", "127.0.0.1", "--demo", "true")
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        guessers = [
            stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S)) for _ in range(4)
        ]
        for port, guesser in enumerate(guessers):
            guesser.sendall(
                b"POST /admin/sign_in HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
                b"X-Forwarded-For: 192.0.2.1:%d\r\n\r\npassword=x" % port
            )
        statuses = sorted(guesser.recv(4096).split(b" ")[1] for guesser in guessers)
    assert statuses == [b"200", b"200", b"200", b"429"]


def test_pages_see_the_host_a_trusted_proxy_names(start_server: Any) -> None:
    """Otherwise the form of a page behind a proxy that changes Host seems to come from another site."""
    server = start_server("--trusted-proxies", "127.0.0.1")
    form = {"url": server.url + "/admin/sign_in", "data": {"username": "x", "password": server.admin_secret}}
    for status, sent in (
        (403, {}),
        (200, {"forwarded": "for=192.0.2.1;host=push.example"}),
        (403, {"forwarded": "for=192.0.2.1;host=push.example", "x-forwarded-for": "192.0.2.1"}),
        (403, {"forwarded": "for=192.0.2.1;host=push.example, for=192.0.2.2"}),
    ):
        answer = http.post(**form, headers={"origin": "https://push.example"} | sent)
        assert answer.status_code == status, sent


def test_a_second_forwarded_header_counts(start_server: Any) -> None:
    """Some proxies add their header behind the one that a client sent (RFC 9110, 5.3)."""
    server = start_server("--trusted-proxies", "127.0.0.1", "--allow-posting-from", "192.0.2.1")
    headers = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "203.0.113.9"), (HEADER, token(server))]
    assert http.post(server.url + "/info", headers=headers).status_code == 403


def test_forwarded_headers_are_ignored_without_trusted_proxies(start_server: Any, server: Any) -> None:
    """Neither to be accepted nor to be refused."""
    elsewhere = start_server("--allow-posting-from", "192.0.2.1")
    claim = {"x-forwarded-for": "192.0.2.1"}
    assert ask(elsewhere, token(elsewhere), **claim).status_code == 403
    assert ask(server, token(server), **claim).status_code == 200


def test_the_address_comes_before_the_signature(start_server: Any) -> None:
    """Outside the allowed addresses a bad signature is not checked."""
    server = start_server("--allow-posting-from", "192.0.2.1")
    assert ask(server, "bad").status_code == 403


def test_signatures_of_any_age_pass_without_validate_requests(start_server: Any) -> None:
    """Where validate_requests is off; the secret still counts."""
    server = start_server("--validate-requests", "false")
    assert ask(server, token(server, ahead_s=-(10**7))).status_code == 200
    assert ask(server, token(server, secret="another secret")).status_code == 401


def test_signature_text_path_accepts_only_the_path(start_server: Any) -> None:
    """signature_text = path."""
    server = start_server("--signature-text", "path")
    assert ask(server, token(server)).status_code == 200
    assert ask(server, token(server, "channelstream")).status_code == 401


def test_an_ipv6_peer_is_allowed_alone_and_in_a_network(start_server: Any) -> None:
    """Over a real IPv6 socket, alone and in a network."""
    for allowed, status in (("::1", 200), ("::/64", 200), ("2001:db8::/32", 403), ("127.0.0.1", 403)):
        server = start_server("-o", "::1", "--allow-posting-from", allowed)
        answer = http.post(f"http://[::1]:{server.port}/info", headers=server.sign("/info"))
        assert answer.status_code == status


CHECKER = """
class Checker:
    def __init__(self, secret):
        self.secret = secret

    def unsign(self, token, max_age=None):
        if token != self.secret + "-of-mine":
            raise RuntimeError(token)
"""


def test_a_custom_signature_checker_decides(start_server: Any, tmp_path: Path) -> None:
    """The class that the option names decides, and each of its exceptions is a bad signature."""
    (tmp_path / "my_checker.py").write_text(CHECKER)
    server = start_server("--signature-checker", "my_checker.Checker", PYTHONPATH=str(tmp_path))
    assert ask(server, server.secret + "-of-mine").status_code == 200
    assert ask(server, token(server)).json() == BAD
    assert ask(server, None).status_code == 403


def test_a_refused_body_does_not_spoil_the_socket(server: Any) -> None:
    """Unread bytes are skipped; the next request is answered as usual."""
    with httpx.Client(verify=False, timeout=PATIENCE_S, base_url=server.url) as client:
        assert client.post("/message", content=b"x" * 1_000_000).status_code == 403
        assert client.post("/info", headers={HEADER: token(server)}).status_code == 200
