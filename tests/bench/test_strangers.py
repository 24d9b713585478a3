"""What strangers hold, in small numbers."""

import pytest
import uvloop

from channelstream.bench import strangers
from channelstream.bench.load import BenchFailed
from channelstream.bench.measure import Target
from channelstream.bench.strangers import STATES, State, held_kb
from channelstream.bench.wire import Wire
from channelstream.core.http_head_form import CHANGING
from channelstream.core.http_reader import REPEATED_FIELDS, RequestReader

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bench_forks")]


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_reached(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says what shows it, or waits for more."""
    monkeypatch.setattr(strangers, "WARM", 1)
    uvloop.run(held_kb(STATES[name], 1))


def test_heads_that_are_alike_are_kept_with_their_form() -> None:
    """They have as many headers as such a head may have, and all whose values are read alone."""
    reader = RequestReader(head_bytes=32_768)
    reader.receive(strangers._alike())
    heads = []
    while (head := reader.head()) is not None:
        heads.append(head)
    assert (len(heads), reader.has_repeated, reader.keeps_head) == (strangers.ALIKE, True, True)
    assert len(heads[-1].headers) == REPEATED_FIELDS
    assert heads[-1].first.keys() >= CHANGING - {b"content-length"}


def test_a_connection_that_is_closed_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would count as one that holds nothing."""
    monkeypatch.setattr(strangers, "WARM", 1)
    closed = State(lambda _: b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 ")
    with pytest.raises(BenchFailed, match="has ended"):
        uvloop.run(held_kb(closed, 1))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (State(lambda _: b"POST /message HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"), "HTTP/1.1 403 "),
        (State(lambda _: b"GET / HTTP/1.1\r\nHost: x\r\n", None), "None"),
    ],
)
def test_a_connection_in_another_state_ends_the_run(
    other: State, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is answered where the server should wait for more of it, or waits where it should be answered."""
    monkeypatch.setattr(strangers, "WARM", 1)
    with pytest.raises(BenchFailed, match=f"has said .*{said}"):
        uvloop.run(held_kb(other, 1))


def test_a_server_that_is_always_busy_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory would be that of what it has not read yet."""
    monkeypatch.setattr(strangers, "ANSWER_S", 0.1)
    monkeypatch.setattr(strangers, "QUIET_S", 0.01)
    monkeypatch.setattr(strangers, "QUIET_SHARE", -1)
    with pytest.raises(BenchFailed, match=r"still busy after 0\.1 s"):
        uvloop.run(strangers._quiet(Target("busy", Wire(host="127.0.0.1", port=1))))
