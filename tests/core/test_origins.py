"""Origins: values of the option become the form that browsers send, or are refused."""

import pytest

from channelstream.core.origins import normalize_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80/", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://example.com:08443", "https://example.com:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://faß.de", "https://xn--fa-hia.de"),
        ("https://bu\u0308cher\u3002example", "https://xn--bcher-kva.example"),
        ("http://[0:0::1]:81", "http://[::1]:81"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://1.example:81", "http://1.example:81"),
        ("https://3com.0xa.a1", "https://3com.0xa.a1"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("app://127.1", "app://127.1"),
        ("safari-web-extension://A1B2-C3", "safari-web-extension://a1b2-c3"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("file://", "file://"),
        ("null", "null"),
        ("Null", "null"),
    ],
)
def test_an_origin_has_one_form(text: str, origin: str) -> None:
    """Normalizing that form changes nothing."""
    assert normalize_origin(text) == origin
    assert normalize_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "example.com",
        "https://",
        "https://*.example.com",
        "https://example.com/path",
        "https://example.com?x",
        "https://user@example.com",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:port",
        "https://a b",
        "https://a..b",
        "http://[::1",
        "http://[1]",
        "https://☃☃\u200d.example\u2488",
        "http://127.1",
        "http://0x7f.0.0.0x1",
        "http://127.0.0.1.",
        "https://256.1.1.1",
        "https://example.1",
        "https://2130706433",
        "ws://example.com",
        "wss://example.com",
        "://x",
        "javascript:alert(1)",
    ],
)
def test_an_impossible_origin_is_refused(text: str) -> None:
    """A pattern, a path, a user, a malformed host, an address in a form that no browser sends, or that of a stream."""
    with pytest.raises(ValueError):
        normalize_origin(text)
