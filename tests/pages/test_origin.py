"""The guard against requests that other sites make a browser send."""

import pytest
from starlette.requests import Request

from channelstream.pages.origin import is_same_origin


def request(headers: dict[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in {"host": "push.test:8000", **headers}.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "scheme": "http", "headers": raw})


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"origin": "http://push.test:8000"}, True),
        ({"origin": "https://push.test:8000"}, True),
        ({"origin": "http://push.test:9000"}, False),
        ({"origin": "http://push.test:8000.evil.test"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://push.test:8000"}, False),
        ({"origin": "http://["}, False),
    ],
)
def test_own_and_foreign_pages_are_distinguished(headers: dict[str, str], ours: bool) -> None:
    """Fetch metadata decides, else the origin's host; a script sends neither and passes."""
    assert is_same_origin(request(headers)) is ours
