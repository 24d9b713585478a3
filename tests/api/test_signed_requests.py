"""Requests that are signed as a whole, and what a thief of one can do with it: nothing."""

import json
import re
import socket
from base64 import b64encode
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import httpx
import pytest
from itsdangerous import TimestampSigner
from tests.http_client import http
from tests.signing import signature
from tests.waiting import PATIENCE_S, eventually

from channelstream.api.unproven import UNPROVEN_BYTES
from channelstream.errors import BadSignature

BAD = BadSignature().body
BODY = json.dumps([{"user": "ann", "channel": "signed", "message": "hello"}]).encode()


def send(
    server: Any, headers: dict[str, str], method: str = "POST", target: str = "/message", body: bytes = BODY
) -> httpx.Response:
    return http.request(method, server.url + target, content=body, headers=headers)


@pytest.mark.nodes(1, 3)
def test_a_signed_request_is_answered_once(server: Any) -> None:
    """A second one with its header is refused, at every node, whatever else it has."""
    headers = signature(server.secret, "POST", "/message", BODY)
    assert send(server, headers).status_code == 200
    for _ in range(5):
        again = send(server, headers)
        assert (again.status_code, again.json()) == (401, BAD)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/message", BODY.replace(b"hello", b"stolen")),
        ("POST", "/message", b""),
        ("POST", "/message", BODY + b" "),
        ("PATCH", "/message", BODY),
        ("DELETE", "/message", BODY),
        ("POST", "/connect", BODY),
        ("POST", "/info", BODY),
        ("POST", "/message?x=1", BODY),
        ("POST", "/mess%61ge", BODY),
    ],
)
def test_a_stolen_header_is_good_for_nothing_else(server: Any, method: str, target: str, body: bytes) -> None:
    """Another body, method, path, query, or spelling of the path; and the owner can still use it."""
    headers = signature(server.secret, "POST", "/message", BODY)
    stolen = send(server, headers, method, target, body)
    assert (stolen.status_code, stolen.json()) == (401, BAD)
    assert send(server, headers).status_code == 200


@pytest.mark.nodes(3)
@pytest.mark.parametrize(
    ("ahead_s", "statuses"),
    [(-50, (200, 503)), (50, (200,)), (-75, (401,)), (75, (401,)), (-(10**7), (401,))],
)
def test_a_signature_is_good_for_its_minute(server: Any, ahead_s: int, statuses: tuple[int, ...]) -> None:
    """A minute each way; one from before the log began has to be made again."""
    headers = signature(server.secret, "POST", "/message", BODY, ahead_s=ahead_s)
    assert send(server, headers).status_code in statuses


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        (r"ts=\d+", "ts=1900000000"),
        (r"nonce=\w+", "nonce=" + "n" * 22),
        (r"sig=\w+", "sig=" + "0" * 64),
        (r"key=", "key=unknown"),
        (r" key=.*", ""),
        (r"key=.*", "key=, ts=1, nonce=x, sig=y"),
        (r"nonce=\w+", "nonce=" + "n" * 5000),
        (r"sig=\w+", "sig=\xff\xfe"),
    ],
)
def test_a_changed_header_is_refused(server: Any, pattern: str, other: str) -> None:
    """401 with one answer for all faults, and the scheme that would be accepted."""
    headers = signature(server.secret, "POST", "/message", BODY)
    changed = re.sub(pattern, other, headers["authorization"]).encode("latin-1")
    request = httpx.Request(
        "POST", server.url + "/message", headers=[(b"authorization", changed)], content=BODY
    )
    with httpx.Client(verify=False, timeout=PATIENCE_S) as client:
        answer = client.send(request)
    assert (answer.status_code, answer.json()) == (401, BAD)
    assert answer.headers["www-authenticate"] == "CS-HMAC-SHA256"


def test_another_secret_signs_nothing(server: Any) -> None:
    """Nor does an empty one."""
    for secret in ("another secret", ""):
        assert send(server, signature(secret, "POST", "/message", BODY)).json() == BAD


def test_a_query_is_signed_as_it_is_sent(server: Any) -> None:
    """With its escapes; without it, or with another one, the signature is of another request."""
    target = "/subscribe?conn_id=4b1e8a52-30ae-4be1-9d1b-50f0b0c0a001&x=a%20b"
    body = json.dumps({"channels": ["a"]}).encode()
    for other in ("/subscribe", target.replace("a%20b", "a+b"), target.replace("4b1e", "4b1f")):
        assert (
            send(server, signature(server.secret, "POST", target, body), "POST", other, body).status_code
            == 401
        )
    answer = send(server, signature(server.secret, "POST", target, body), "POST", target, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def exchange(server: Any, request: bytes) -> bytes:
    """Send bytes on a connection of their own, and return the beginning of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(request)
        return raw.recv(4096)


def head(headers: dict[str, str], *lines: str) -> bytes:
    fields = [f"authorization: {headers['authorization']}", "connection: close", *lines]
    return "\r\n".join(["POST /message HTTP/1.1", "host: x", *fields, "", ""]).encode()


def chunked(body: bytes) -> bytes:
    parts = [body[start : start + 7] for start in range(0, len(body), 7)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_the_body_is_bound_however_it_is_framed(server: Any) -> None:
    """In chunks as with a length: what is hashed is what is parsed."""
    for body, status in ((BODY, b"200"), (BODY.replace(b"hello", b"stolen"), b"401")):
        headers = signature(server.secret, "POST", "/message", BODY)
        answer = exchange(server, head(headers, "transfer-encoding: chunked") + chunked(body))
        assert answer.split(b" ")[1] == status


def test_a_wrong_head_is_refused_before_its_body_is_read(server: Any) -> None:
    """An unknown key, an old time, and a header that was used: the body is announced and never sent."""
    used = signature(server.secret, "POST", "/message", BODY)
    assert send(server, used).status_code == 200
    for headers in (
        used,
        signature(server.secret, "POST", "/message", BODY, key_id="unknown"),
        signature(server.secret, "POST", "/message", BODY, ahead_s=-75),
        {"authorization": "CS-HMAC-SHA256 x"},
    ):
        answer = exchange(server, head(headers, "content-length: 1000000"))
        assert answer.split(b" ")[1] == b"401"


def test_a_digest_lets_a_wrong_signature_be_refused_before_its_body_is_read(server: Any) -> None:
    """The body is announced and never sent; a right one is read, and has to be the one that was announced."""
    digest = f"content-digest: sha-256=:{b64encode(sha256(BODY).digest()).decode()}:"
    for headers in (
        signature("wrong", "POST", "/message", BODY),
        signature(server.secret, "POST", "/message", BODY + b" "),
    ):
        answer = exchange(server, head(headers, "content-length: 1000000", digest))
        assert answer.split(b" ")[1] == b"401"
    for body, status in ((BODY.replace(b"hello", b"other"), b"401"), (BODY, b"200")):
        headers = signature(server.secret, "POST", "/message", BODY)
        answer = exchange(server, head(headers, f"content-length: {len(body)}", digest) + body)
        assert answer.split(b" ")[1] == status


def test_few_bodies_are_received_that_prove_nothing_yet(start_server: Any) -> None:
    """Strangers announce bodies up to the bound of all applications; then other such calls wait, those with a digest not."""
    flags = ("--max-body-bytes", str(UNPROVEN_BYTES // 2), "--body-timeout-s", "600")
    server = start_server(*flags, CHANNELSTREAM_APP_SHOP_SECRET="of the shop, long enough")
    digest = {"content-digest": f"sha-256=:{b64encode(sha256(BODY).digest()).decode()}:"}
    with ExitStack() as stack:
        for path in (b"/message", b"/app/shop/message"):
            raw = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
            )
            stranger = signature("wrong", "POST", "/message", BODY)
            request = head(stranger, f"content-length: {UNPROVEN_BYTES // 2}", "expect: 100-continue")
            raw.sendall(request.replace(b"/message", path))
            assert raw.recv(100).startswith(b"HTTP/1.1 100")
        refused = send(server, signature(server.secret, "POST", "/message", BODY))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert send(server, signature(server.secret, "POST", "/message", BODY) | digest).status_code == 200
        assert send(server, signature(server.secret, "GET", "/info"), "GET", "/info", b"").status_code == 200
        assert send(server, old(server)).status_code == 200
    eventually(
        lambda: send(server, signature(server.secret, "POST", "/message", BODY)).status_code == 200,
        "the strangers are gone, and their part of the bound is not",
    )


def test_a_wrong_signature_learns_nothing_about_its_body(server: Any) -> None:
    """It is checked before the body is parsed."""
    headers = signature("another secret", "POST", "/message", b"{")
    assert send(server, headers, body=b"{").status_code == 401
    headers = signature(server.secret, "POST", "/message", b"{")
    assert send(server, headers, body=b"{").status_code == 400


def test_the_body_of_a_signed_request_is_bounded(server: Any) -> None:
    """As that of any other call."""
    body = b" " * (4 * 1024 * 1024 + 1)
    assert send(server, signature(server.secret, "POST", "/message", body), body=body).status_code == 413


@pytest.mark.parametrize("prefix", ["", "/push"])
def test_the_prefix_of_a_proxy_is_not_signed(start_server: Any, prefix: str) -> None:
    """Whether the proxy leaves it in the path or not."""
    server = start_server("--trusted-proxies", "127.0.0.1")
    headers = signature(server.secret, "POST", "/message", BODY) | {"x-script-name": "/push"}
    assert send(server, headers, target=f"{prefix}/message").status_code == 200


def old(server: Any) -> dict[str, str]:
    return {"x-channelstream-secret": TimestampSigner(server.secret).sign("/message").decode()}


def bearer(server: Any) -> dict[str, str]:
    return {"authorization": f"Bearer .{server.secret}"}


@pytest.mark.parametrize(
    ("signing", "statuses"),
    [("any", (200, 200, 200)), ("signed", (200, 403, 401)), ("old", (403, 200, 403))],
)
def test_the_forms_are_those_of_the_option(
    start_server: Any, signing: str, statuses: tuple[int, ...]
) -> None:
    """Signed as a whole, the old signature, and a bearer key."""
    server = start_server("--request-signing", signing)
    sent = (signature(server.secret, "POST", "/message", BODY), old(server), bearer(server))
    assert tuple(send(server, headers).status_code for headers in sent) == statuses
    query = http.post(f"{server.url}/message?secret={server.secret}", content=BODY).status_code
    assert query == (403 if signing == "signed" else 200)


def test_a_bearer_key_needs_tls_or_this_machine(start_server: Any) -> None:
    """As a trusted proxy reports it; the answer says what to do with a key that was sent without."""
    server = start_server("--trusted-proxies", "127.0.0.1", "--allow-posting-from", "0.0.0.0")
    elsewhere = {"x-forwarded-for": "192.0.2.1"}
    assert send(server, bearer(server)).status_code == 200
    refused = send(server, bearer(server) | elsewhere)
    assert (refused.status_code, "revoke it" in refused.json()["error"]) == (403, True)
    assert send(server, bearer(server) | elsewhere | {"x-forwarded-proto": "https"}).status_code == 200
    wrong = send(server, {"authorization": "Bearer .wrong"})
    assert (wrong.status_code, wrong.json()) == (401, BAD)
    _, log = server.stop()
    assert server.secret not in "".join(server.lines) + log


def test_a_bearer_key_that_came_over_tls_is_accepted(start_server: Any, certificate: tuple[str, str]) -> None:
    """With the server's own certificate."""
    cert, key = certificate
    server = start_server("--ssl-certfile", cert, "--ssl-keyfile", key)
    assert (
        http.post(
            f"https://127.0.0.1:{server.port}/message", content=BODY, headers=bearer(server)
        ).status_code
        == 200
    )


def test_an_old_signature_counts_beside_another_s_authorization(server: Any) -> None:
    """A proxy in front may ask for Basic, or for a token of its own."""
    for value in ("Basic eDp5", "Bearer of-the-proxy", "Digest x"):
        assert send(server, old(server) | {"authorization": value}).status_code == 200


def test_a_signed_script_sees_the_admin_pages(server: Any) -> None:
    """Its signature is checked, and its nonce counts once, as in calls of the API."""
    target = "/admin/admin.json"
    headers = signature(server.secret, "GET", target)
    assert send(server, headers, "GET", target, b"").status_code == 200
    for refused in (
        headers,
        signature("another secret", "GET", target),
        signature(server.secret, "GET", "/admin"),
    ):
        assert send(server, refused, "GET", target, b"").status_code == 401


def test_a_signed_script_starts_a_trace(server: Any) -> None:
    """The body of the form is bound, too."""
    target, body = "/admin/trace.json", json.dumps({"kind": "channel", "name": "signed"}).encode()
    headers = signature(server.secret, "POST", target, body)
    assert send(server, headers, "POST", target, body.replace(b"signed", b"stolen")).status_code == 403
    assert send(server, headers, "POST", target, body).status_code == 200


def test_a_signature_is_good_for_one_application(start_server: Any) -> None:
    """Below its path the calls are those of its keys only; the path itself is not signed, as a proxy may add it."""
    secret = "the secret of the shop, and of nobody else"
    server = start_server(CHANNELSTREAM_APP_SHOP_SECRET=secret)
    for target, good, bad in (
        ("/app/shop/message", secret, server.secret),
        ("/message", server.secret, secret),
    ):
        assert send(server, signature(bad, "POST", "/message", BODY), target=target).status_code == 401
        headers = signature(good, "POST", "/message", BODY)
        assert send(server, headers, target=target).status_code == 200
        assert send(server, headers, target=target).status_code == 401


def test_a_request_of_before_a_restart_is_not_answered_again(start_server: Any) -> None:
    """Its nonce is forgotten, so what was signed earlier has to be signed again; the answer says when that helps."""
    server = start_server()
    refused = send(server, signature(server.secret, "POST", "/message", BODY, ahead_s=-30))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert 20 <= int(refused.headers["retry-after"]) <= 31
    assert send(server, signature(server.secret, "POST", "/message", BODY)).status_code == 200
