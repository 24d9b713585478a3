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
        ("capacitor://localhost", "capacitor://localhost"),
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
        "://x",
        "javascript:alert(1)",
    ],
)
def test_an_impossible_origin_is_refused(text: str) -> None:
    """A pattern, a path, a user or a malformed host."""
    with pytest.raises(ValueError):
        normalize_origin(text)
