"""What was refused lately: a bounded table, and lines in the log at a bounded rate."""

import logging

import pytest

from channelstream.errors import BadSignature, BadToken, Invalid, MethodNotAllowed, NotFound
from channelstream.http.refusals import KEPT, LOG_EVERY_S, RefusalTable


class Clock:
    """A clock that a test sets, for the time of day and for times between lines."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> RefusalTable:
    return RefusalTable(clock, clock)


def test_refusals_are_counted_by_path_reason_and_caller(refusals: RefusalTable, clock: Clock) -> None:
    """Those that were met last first."""
    refusals.add("POST", "/message", BadSignature(), "10.0.0.1")
    refusals.add("POST", "/message", Invalid({"user": ["Missing."]}), "10.0.0.1")
    clock.now_s += 5.0
    refusals.add("POST", "/message", BadSignature(), "10.0.0.1")
    refusals.add("POST", "/connect", BadSignature(), "10.0.0.2")
    assert [(*what, refused.count, refused.last_s) for what, refused in refusals.rows()] == [
        ("POST", "/connect", 401, "bad_signature", "10.0.0.2", 1, 1005.0),
        ("POST", "/message", 401, "bad_signature", "10.0.0.1", 2, 1005.0),
        ("POST", "/message", 422, "invalid", "10.0.0.1", 1, 1000.0),
    ]


def test_the_table_is_bounded(refusals: RefusalTable) -> None:
    """A flood of callers drops what was not met for longest; long texts are cut."""
    for number in range(KEPT + 50):
        refusals.add("X" * 100, "/message", BadSignature(), f"{number:04}" + "y" * 1000)
        refusals.add("POST", "/message", BadSignature(), "often")
    rows = refusals.rows()
    assert len(rows) == KEPT
    assert (rows[0][0].address, rows[0][1].count) == ("often", KEPT + 50)
    assert (len(rows[1][0].method), len(rows[1][0].address)) == (16, 64)


def test_lines_in_the_log_are_few(
    refusals: RefusalTable, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one at once; the next one says how many came in between. No text of a stranger breaks a line."""
    caplog.set_level(logging.INFO)
    for _ in range(1000):
        refusals.add("POST", "/message", BadSignature(), "10.0.0.1\nforged line")
    clock.now_s += LOG_EVERY_S
    refusals.add("GET", "", NotFound.path("/nowhere"), "10.0.0.2")
    clock.now_s += LOG_EVERY_S
    refusals.add("POST", "", MethodNotAllowed("no"), "10.0.0.3")
    assert [record.message for record in caplog.records] == [
        "refused 'POST /message' from '10.0.0.1\\nforged line': 401 bad_signature",
        "refused 'GET an unknown path' from '10.0.0.2': 404 not_found; 999 more not logged",
        "refused 'POST a page' from '10.0.0.3': 405 method_not_allowed",
    ]


def test_a_line_has_the_note_of_its_error(refusals: RefusalTable, caplog: pytest.LogCaptureFixture) -> None:
    """The table has not: text of strangers could fill it."""
    caplog.set_level(logging.INFO)
    refusals.add("GET", "/ws", BadToken(note="the issuer 'x' is none of token_issuers"), "10.0.0.1")
    assert caplog.messages == [
        "refused 'GET /ws' from '10.0.0.1': 401 bad_token, the issuer 'x' is none of token_issuers"
    ]
    assert [refusal.code for refusal, _ in refusals.rows()] == ["bad_token"]
