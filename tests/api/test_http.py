"""What HTTP itself answers: CORS, preflights, sizes, broken JSON, wrong methods, plain HTTP."""

import gzip
import re
import socket
from typing import Any

import httpx
import pytest
from tests.http_client import http
from tests.waiting import PATIENCE_S

ORIGIN = "https://app.example"
ALLOW_ORIGIN = "access-control-allow-origin"
METHODS = "GET, POST, OPTIONS, PUT, DELETE, PATCH"


def post(server: Any, path: str, content: bytes, **headers: str) -> httpx.Response:
    return http.post(server.url + path, content=content, headers=server.sign(path) | headers)


def assert_is_error(answer: httpx.Response) -> None:
    """Check the shape of an error: a whole sentence, a code, and optional faults."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert body["error"].endswith(".")
    assert re.fullmatch(r"[a-z_]+", body["code"])
    assert ("faults" in body) == (answer.status_code in (400, 422))


def test_any_page_may_read_any_answer(server: Any) -> None:
    """On success and on every error, never with credentials."""
    answers = [
        server.request("POST", "/info"),
        server.request("POST", "/subscribe", {}),
        post(server, "/message", b"{"),
        http.post(server.url + "/message"),
        http.post(server.url + "/message", headers={"x-channelstream-secret": "bad"}),
        http.put(server.url + "/message"),
        http.get(server.url + "/listen", params={"conn_id": "http-unknown"}),
        http.get(server.url + "/disconnect", params={"conn_id": "http-unknown"}),
        http.get(server.url + "/nothing"),
        http.post(server.url + "/message/"),
        http.post(server.url + "//message"),
        http.put(server.url + "/sse"),
        http.get(server.url + "/ws"),
        http.get(server.url + "/sse"),
        http.get(server.url + "/static/nothing.js"),
        http.post(server.url + "/"),
    ]
    statuses = [200, 422, 400, 403, 401, 404, 401, 200, 404, 404, 404, 404, 426, 422, 404, 405]
    assert [answer.status_code for answer in answers] == statuses
    for answer in answers:
        if answer.status_code != 200:
            assert_is_error(answer)
        assert answer.headers[ALLOW_ORIGIN] == "*"
        assert answer.headers["access-control-allow-methods"] == METHODS
        assert answer.headers["content-type"] == "application/json"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/connect", "/message", "/disconnect", "/info", "/listen", "/client", "/ws", "/sse", "/", "/no"]
)
def test_preflights_need_no_signature(server: Any, path: str) -> None:
    """200, empty, with the headers that browsers ask for."""
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    answer = http.options(server.url + path, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers[ALLOW_ORIGIN] == "*"
    assert answer.headers["access-control-max-age"] == "86400"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"Content-Type", "Last-Event-ID", "Authorization"} <= set(allowed)


def test_faults_stay_where_0_7_has_them(server: Any) -> None:
    """By field at top level, and the word of 401."""
    invalid = server.request("POST", "/connect", {"username": "", "channels": [""]}).json()
    assert {key: invalid[key] for key in ("username", "channels")} == invalid["faults"]
    assert http.post(server.url + "/info?secret=x").json()["request"] == "Bad Signature"


@pytest.mark.parametrize("path", ["/admin", "/admin/nothing", "/admin/admin.json", "/openapi.json"])
def test_admin_pages_are_for_no_other_origin(server: Any, path: str) -> None:
    """Nor their errors and preflights, which have the shape of all errors."""
    method = "POST" if path == "/admin" else "GET"
    for answer in (http.request(method, server.url + path), http.options(server.url + "/admin")):
        assert ALLOW_ORIGIN not in answer.headers
    refused = http.request(method, server.url + path)
    assert refused.status_code in (302, 401, 403, 404, 405)
    if refused.status_code != 302:
        assert_is_error(refused)


def test_a_page_says_which_methods_it_takes(server: Any) -> None:
    """405, with `Allow` (RFC 9110, 15.5.6)."""
    answer = http.post(server.url + "/")
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/admin/", "/admin/sign_in/", "/demo/", "/openapi.json/"])
def test_a_slash_more_is_another_path_of_pages_too(server: Any, path: str) -> None:
    """It is not found: no redirect is made of the host that the request names."""
    answer = http.get(server.url + path, headers={"host": "other.test"}, follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_allowed_origins_are_exact(start_server: Any) -> None:
    """Named back with Vary; a longer, shorter or absent one is not allowed to read."""
    server = start_server("--allow-cors", f"{ORIGIN},http://127.0.0.1:3000")
    for path in ("/disconnect?conn_id=x", "/disconnect", "/info"):
        for origin in (ORIGIN, "http://127.0.0.1:3000"):
            answer = http.get(server.url + path, headers={"origin": origin})
            assert (answer.headers[ALLOW_ORIGIN], answer.headers["vary"].lower()) == (origin, "origin")
        for origin in (ORIGIN + ".evil", "https://app.exampl", "http://app.example", "null", ""):
            answer = http.get(server.url + path, headers={"origin": origin} if origin else {})
            assert ALLOW_ORIGIN not in answer.headers
            assert answer.headers["vary"].lower() == "origin"


def test_long_bodies_are_refused(start_server: Any) -> None:
    """413 at the bound, whether the length is announced or not."""
    server = start_server("--max-body-bytes", "2000")
    fitting = b'{"user": "x", "channel": "http-long", "message": "%s"}'
    body = fitting % (b"x" * (2000 - len(fitting) + 2))
    assert len(body) == 2000
    assert post(server, "/message", body).status_code == 200
    assert post(server, "/message", body + b" ").status_code == 413
    chunks = iter([body, b" "])
    answer = http.post(server.url + "/message", content=chunks, headers=server.sign("/message"))
    assert (answer.status_code, answer.headers[ALLOW_ORIGIN]) == (413, "*")
    assert "max_body_bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff", b"[1,]", b"NaN", b'{"user": NaN}', b'{"a": 1} x', b'"\xed\xa0\x80"', b"\x00" * 50],
)
@pytest.mark.parametrize("path", ["/connect", "/message", "/user_state", "/channel_config", "/subscribe"])
def test_invalid_json_is_refused(server: Any, path: str, body: bytes) -> None:
    """400, in the shape of the other faults."""
    answer = post(server, path, body)
    assert answer.status_code == 400
    assert list(answer.json()["faults"]) == ["_schema"]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_deep_nesting_is_refused(server: Any, body: bytes) -> None:
    """Alone, and inside an otherwise good payload."""
    assert post(server, "/info", body).status_code == 400
    inside = b'{"user": "x", "channel": "http-deep", "message": %b}' % body
    assert post(server, "/message", inside).status_code == 400
    assert server.request("GET", "/info").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("/connect", b"[]"), ("/user_state", b"1"), ("/disconnect", b"[]"), ("/channel_config", b'"x"')],
)
def test_a_body_of_another_shape_is_refused(server: Any, path: str, body: bytes) -> None:
    """422: it is JSON of another schema."""
    assert post(server, path, body).status_code == 422


def test_huge_numbers_do_not_break_the_server(server: Any) -> None:
    """They are answered, and the server continues."""
    for number in (b"1e999", b"-1e999", b"9" * 400, b"1e-999"):
        body = b'{"user": "x", "channel": "http-numbers", "message": {"n": %b}}' % number
        assert post(server, "/message", body).status_code in (200, 400, 422)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"info": {}}'.encode("utf-16"), "UTF-16"),
        ('{"info": {}}'.encode("utf-16-le"), "UTF-16"),
        ('{"info": {}}'.encode("utf-16-be"), "UTF-16"),
        (gzip.compress(b"{}", mtime=0), "compressed"),
    ],
)
def test_a_body_in_another_form_is_refused_with_the_accepted_form(
    server: Any, body: bytes, says: str
) -> None:
    """400, with the form that was recognized."""
    answer = post(server, "/info", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert says in answer.json()["error"]


def test_an_encoded_body_is_refused_as_such(server: Any) -> None:
    """415, with the accepted encodings (RFC 9110, 15.5.16); identity is no encoding, and JSON is read as it is."""
    answer = post(server, "/info", gzip.compress(b"{}"), **{"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "identity"
    for encoding in ("identity", "gzip"):
        assert post(server, "/info", b"{}", **{"content-encoding": encoding}).status_code == 200
    assert post(server, "/info", b"{", **{"content-encoding": "identity"}).status_code == 400


def test_a_byte_order_mark_is_no_fault(server: Any) -> None:
    """RFC 8259, 8.1."""
    assert post(server, "/info", b"\xef\xbb\xbf{}").status_code == 200


def test_a_payload_cut_inside_a_character_arrives(server: Any) -> None:
    """With U+FFFD in its place; malformed numbers are refused as usual."""
    body = b'[{"user": "x", "channel": "http-cut", "message": {"\\ud83d": "cut \\ud83d", "n": 1.5}}]'
    [answer] = post(server, "/message", body).json()
    assert answer["message"] == {"\ufffd": "cut \ufffd", "n": 1.5}
    for number in (b"NaN", b"-Infinity", b"1e999", b"9" * 5000):
        assert post(server, "/message", body.replace(b"1.5", number)).status_code == 400


def test_any_content_type_is_accepted(server: Any) -> None:
    """The old JavaScript client sends none that says JSON."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"):
        assert post(server, "/info", b"{}", **{"content-type": kind}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/connect"),
        ("GET", "/message"),
        ("PUT", "/message"),
        ("DELETE", "/info"),
        ("PATCH", "/disconnect"),
        ("DELETE", "/listen"),
        ("POST", "/connect/"),
        ("POST", "/nothing"),
    ],
)
def test_wrong_methods_and_paths_are_not_found(server: Any, method: str, path: str) -> None:
    """404, with a good signature and without."""
    assert server.request(method, path).status_code == 404
    assert http.request(method, server.url + path).status_code == 404


def test_plain_http_is_refused_where_https_is_enforced(start_server: Any) -> None:
    """406 for everything; only a trusted proxy can say that it was https."""
    server = start_server("--enforce-https")
    for path in ("/info", "/listen?conn_id=x", "/ws?conn_id=x", "/"):
        headers = server.sign("/info") | {"x-scheme": "https", "x-forwarded-proto": "https"}
        assert http.get(server.url + path, headers=headers).status_code == 406
    behind = start_server("--enforce-https", "--trusted-proxies", "127.0.0.1")
    for name in ("x-forwarded-proto", "x-scheme", "x-url-scheme"):
        assert behind.request("GET", "/info", headers={name: "https"}).status_code == 200
        assert behind.request("GET", "/info", headers={name: "http"}).status_code == 406


def test_requests_of_one_socket_are_answered_in_order(server: Any) -> None:
    """Pipelined, as RFC 9112 (9.3.2) allows."""
    requests = [f"GET /disconnect?conn_id=http-{n} HTTP/1.1\r\nhost: x\r\n\r\n" for n in range(3)]
    requests.append("GET /disconnect HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall("".join(requests).encode())
        answers = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.rindex(b"HTTP/1.1 422") > answers.rindex(b"HTTP/1.1 200")
