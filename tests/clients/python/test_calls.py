"""What the Python client's calls send, without a server."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from itsdangerous import TimestampSigner

from channelstream_client import (
    ChannelSettings,
    Message,
    PartlySent,
    Refused,
    Unavailable,
    Unreachable,
    calls,
)
from channelstream_client.calls import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from channelstream_client.exchange import Answer, Caller, Pause, Request, Retries

Outcome = Answer | Unreachable
SENT = {"uuid": "u", "timestamp": "2026-01-01T00:00:00.000000", "user": "ann", "channel": "news"}
HELLO = Message(user="ann", channel="news", message={"text": "hello"})


def ok(body: Any) -> Answer:
    return Answer(200, json.dumps(body).encode())


def accept_all(request: Request) -> Answer:
    body = json.loads(request.body)
    return ok([SENT] * len(body) if isinstance(body, list) else SENT)


class Run:
    """Carries a plan out against a function in place of a server."""

    def __init__(
        self, plan: Any, answer: Callable[[Request], Outcome], retries: Retries | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self._answer = answer
        self._steps = Caller(TimestampSigner("s"), retries or Retries(), lambda: 1.0).carry_out(plan)

    def result(self) -> Any:
        outcome: Outcome | None = None
        try:
            while True:
                outcome = self._take(self._steps.send(outcome))
        except StopIteration as stop:
            return stop.value

    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.requests]

    def _take(self, step: Request | Pause) -> Outcome | None:
        if isinstance(step, Pause):
            self.pauses.append(step.wait_s)
            return None
        self.requests.append(step)
        return self._answer(step)


def in_turn(*outcomes: Outcome) -> Callable[[Request], Outcome]:
    turns: Iterator[Outcome] = iter(outcomes)
    return lambda _: next(turns)


def test_repeated_message_keeps_its_uuid() -> None:
    """A message that got no answer is sent again with the same uuid, so it is delivered once."""
    run = Run(calls.publish(HELLO), in_turn(Unreachable("cut"), ok(SENT)))
    run.result()
    first, second = run.bodies()
    assert first == second
    assert first["uuid"] == HELLO.uuid


def test_repeated_connect_keeps_its_conn_id() -> None:
    """A connection is named before the first attempt: a repetition registers no second one."""
    run = Run(
        calls.connect("ann"), in_turn(Unreachable("cut"), Unreachable("cut"), ok([])), Retries(attempts=2)
    )
    with pytest.raises(Unreachable):
        run.result()
    first, second = run.bodies()
    assert first["conn_id"] == second["conn_id"]


def test_waits_grow_and_have_a_last_one() -> None:
    """Without an answer the longest wait doubles up to its bound, and the attempts end."""
    retries = Retries(attempts=4, first_wait_s=1.0, longest_wait_s=3.0)
    run = Run(calls.disconnect("c"), lambda _: Unreachable("cut"), retries)
    with pytest.raises(Unreachable):
        run.result()
    assert run.pauses == [1.0, 2.0, 3.0]
    assert len(run.requests) == 4


def test_retry_after_is_obeyed() -> None:
    """A 503 is not repeated before the time the server named."""
    run = Run(calls.disconnect("c"), in_turn(Answer(503, b"{}", "7"), ok(True)))
    assert run.result() is True
    assert run.pauses[0] >= 7.0


def test_long_retry_after_is_left_to_the_caller() -> None:
    """A wait beyond the longest is not waited; the error says how long it would be."""
    run = Run(calls.disconnect("c"), in_turn(Answer(503, b"{}", "3600")))
    with pytest.raises(Unavailable) as caught:
        run.result()
    assert caught.value.retry_after_s == 3600
    assert run.pauses == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_refusals_are_not_repeated(status: int) -> None:
    """What the server has refused for good is asked once."""
    run = Run(calls.disconnect("c"), in_turn(Answer(status, b"{}")))
    with pytest.raises(Refused):
        run.result()
    assert len(run.requests) == 1


def test_batches_are_bounded_in_number_and_bytes() -> None:
    """Many messages go in few requests, none beyond either bound, in their order."""
    small = [Message(user="ann", channel="news", message=number) for number in range(MAX_BATCH_MESSAGES + 1)]
    large = [Message(user="ann", channel="news", message="x" * (MAX_BATCH_BYTES // 2)) for _ in range(3)]
    run = Run(calls.publish_many([*small, *large]), accept_all)
    assert len(run.result()) == len(small) + len(large)
    assert [uuid["uuid"] for body in run.bodies() for uuid in body] == [m.uuid for m in [*small, *large]]
    assert [len(body) for body in run.bodies()] == [MAX_BATCH_MESSAGES, 2, 1, 1]
    assert all(len(request.body) <= MAX_BATCH_BYTES + 2 for request in run.requests)


def test_failure_after_a_batch_tells_what_was_sent() -> None:
    """When a later request fails, the error names the messages of the earlier ones."""
    messages = [Message(user="ann", channel="news", message=n) for n in range(MAX_BATCH_MESSAGES + 5)]
    answers = in_turn(ok([SENT] * MAX_BATCH_MESSAGES), Answer(422, b"{}"))
    with pytest.raises(PartlySent) as caught:
        Run(calls.publish_many(messages), answers).result()
    assert len(caught.value.sent) == MAX_BATCH_MESSAGES


def test_what_is_not_named_is_not_sent() -> None:
    """Settings and edits say only what the caller named; a null in a state is a value."""
    edit = next(calls.edit("u", channel="news", timestamp=datetime(2026, 1, 1, tzinfo=UTC)))
    assert json.loads(edit.body) == {
        "uuid": "u",
        "channel": "news",
        "pm_users": [],
        "exclude_users": [],
        "timestamp": "2026-01-01T00:00:00+00:00",
    }
    config = next(calls.channel_config({"news": ChannelSettings(history_size=0)}))
    assert json.loads(config.body) == {"news": {"history_size": 0}}
    assert json.loads(next(calls.user_state("ann", {"color": None})).body)["user_state"] == {"color": None}


@pytest.mark.parametrize("since", ["k3f9a1-7", "", None])
def test_the_position_of_the_page_is_handed_on(since: str | None) -> None:
    """`connect` and `subscribe` name it where there is one, and do not mention it where there is none."""
    for plan in (calls.connect("ann", ["news"], since=since), calls.subscribe("c", ["news"], since=since)):
        body = json.loads(next(plan).body)
        assert ("since" in body, body.get("since")) == (since is not None, since)
