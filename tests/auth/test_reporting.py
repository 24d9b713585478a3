"""What an authentication refuses is reported before the caller is answered."""

import pytest
from tests.auth.request import Request

from channelstream.apps.app import App
from channelstream.apps.principal import Principal
from channelstream.auth.base import AuthRequest, Once
from channelstream.auth.reporting import ReportingAuth
from channelstream.errors import BadSignature, Forbidden, TooManyRequests, Unavailable

PRINCIPAL = Principal(App(), frozenset())
ONCE = Once("a text", 60.0)
REFUSED = (Forbidden("no credentials"), BadSignature())


class Scheme:
    """An authentication that accepts a request, and its body, unless it is given an error to raise."""

    def __init__(self, head: Exception | None = None, body: Exception | None = None) -> None:
        self._head = head
        self._body = body

    def principal(self, request: AuthRequest) -> Principal:
        if self._head is not None:
            raise self._head
        return PRINCIPAL

    def verify_body(self, request: AuthRequest, body: bytes) -> Once | None:
        if self._body is not None:
            raise self._body
        return ONCE


def reporting(scheme: Scheme) -> tuple[ReportingAuth, list[tuple[AuthRequest, Exception]]]:
    reports: list[tuple[AuthRequest, Exception]] = []
    return ReportingAuth(scheme, lambda *report: reports.append(report)), reports


@pytest.mark.parametrize("error", REFUSED)
def test_refused_credentials_are_reported(error: Exception) -> None:
    auth, reports = reporting(Scheme(head=error))
    request = Request()
    with pytest.raises(type(error)):
        auth.principal(request)
    assert reports == [(request, error)]


def test_a_body_that_is_not_the_signed_one_is_reported() -> None:
    auth, reports = reporting(Scheme(body=BadSignature()))
    request = Request()
    with pytest.raises(BadSignature):
        auth.verify_body(request, b"{}")
    assert [about for about, _ in reports] == [request]


def test_what_is_accepted_is_not_reported() -> None:
    auth, reports = reporting(Scheme())
    assert (auth.principal(Request()), auth.verify_body(Request(), b"{}"), reports) == (PRINCIPAL, ONCE, [])


def test_a_failure_of_the_server_is_not_reported() -> None:
    """The credentials may be right."""
    auth, reports = reporting(Scheme(head=Unavailable("try again")))
    with pytest.raises(Unavailable):
        auth.principal(Request())
    assert reports == []


@pytest.mark.parametrize("error", REFUSED)
def test_a_report_can_answer_in_another_way(error: Exception) -> None:
    def refuse(request: AuthRequest, refused: Exception) -> None:
        raise TooManyRequests("too many wrong ones")

    with pytest.raises(TooManyRequests):
        ReportingAuth(Scheme(head=error), refuse).principal(Request())
