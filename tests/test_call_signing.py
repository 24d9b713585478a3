"""The server's own programs sign their calls in a form that it accepts."""

from typing import Any

import pytest
from tests.http_client import http


@pytest.mark.parametrize("signing", ["any", "signed", "old"])
def test_the_pages_sign_as_the_server_wants(start_server: Any, signing: str) -> None:
    """The demo registers a visitor, and a call that the explorer had signed is answered."""
    server = start_server("--request-signing", signing, "--demo", "true")
    assert http.post(server.url + "/demo/connect", json={"username": "ann"}).status_code == 200
    form = {"username": "admin", "password": server.admin_secret}
    cookie = http.post(f"{server.url}/admin/sign_in", data=form).headers["set-cookie"].partition(";")[0]
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    call = {"path": "/info", "method": "POST", "query": "?a=b", "body": '{"info": {}}'}
    signed = http.post(f"{server.url}/admin/sign", json=call, headers=headers).json()["headers"]
    assert http.post(f"{server.url}/info?a=b", content=call["body"], headers=signed).status_code == 200
