"""The requests of the Python client's calls, without a server."""

import json
from collections import Counter, OrderedDict, UserDict, UserList
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest

from channelstream_client import (
    ChannelSettings,
    Info,
    Message,
    PartlySent,
    Refused,
    Unavailable,
    Unreachable,
    calls,
)
from channelstream_client.calls import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES
from channelstream_client.exchange import Answer, Caller, Pause, Request, Retries
from channelstream_client.signing import Signer

Outcome = Answer | Unreachable
SENT = {"uuid": "u", "timestamp": "2026-01-01T00:00:00.000000", "user": "ann", "channel": "news"}
HELLO = Message(user="ann", channel="news", message={"text": "hello"})


def ok(body: Any) -> Answer:
    return Answer(200, json.dumps(body).encode())


def accept_all(request: Request) -> Answer:
    body = json.loads(request.body)
    return ok([SENT] * len(body) if isinstance(body, list) else SENT)


class Run:
    """Executes a plan against a function in place of a server."""

    def __init__(
        self,
        plan: Any,
        answer: Callable[[Request], Outcome],
        retries: Retries | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self._answer = answer
        self._steps = Caller(
            Signer("s", "", "auto", lambda: 1_800_000_000.5, lambda: uuid4().hex),
            retries or Retries(),
            lambda: 1.0,
        ).carry_out(plan)

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
    """A message without an answer is sent again with the same uuid, so it is delivered once."""
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


def test_answer_has_a_json_form() -> None:
    """With its times as texts that JavaScript reads, too."""
    sent = Run(calls.publish(HELLO), accept_all).result()
    given = json.loads(json.dumps(asdict(sent), default=datetime.isoformat))
    assert (given["timestamp"], given["edited"]) == ("2026-01-01T00:00:00+00:00", None)


def test_waits_grow_and_have_a_last_one() -> None:
    """Without an answer the longest wait doubles up to its bound, and the attempts end."""
    retries = Retries(attempts=4, first_wait_s=1.0, longest_wait_s=3.0)
    run = Run(calls.disconnect("c"), lambda _: Unreachable("cut"), retries)
    with pytest.raises(Unreachable):
        run.result()
    assert run.pauses == [1.0, 2.0, 3.0]
    assert len(run.requests) == 4


def test_retry_after_is_respected() -> None:
    """A 503 is not repeated before the time the server named."""
    run = Run(calls.disconnect("c"), in_turn(Answer(503, b"{}", "7"), ok(True)))
    assert run.result() is True
    assert run.pauses[0] >= 7.0


def test_long_retry_after_is_left_to_the_caller() -> None:
    """A wait beyond the longest raises; the error says how long it would be."""
    run = Run(calls.disconnect("c"), in_turn(Answer(503, b"{}", "3600")))
    with pytest.raises(Unavailable) as caught:
        run.result()
    assert caught.value.retry_after_s == 3600
    assert run.pauses == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_refusals_are_not_repeated(status: int) -> None:
    """A call that the server refuses permanently is sent once."""
    run = Run(calls.disconnect("c"), in_turn(Answer(status, b"{}")))
    with pytest.raises(Refused):
        run.result()
    assert len(run.requests) == 1


@pytest.mark.parametrize("status", [502, 504])
def test_gateway_without_an_answer_is_a_lost_answer(status: int) -> None:
    """A gateway without an answer does not know the outcome: the call is repeated, and its error says so."""
    gateway = Answer(status, b"<html>Bad Gateway</html>")
    assert Run(calls.disconnect("c"), in_turn(gateway, ok(True))).result() is True
    run = Run(calls.disconnect("c"), lambda _: gateway)
    with pytest.raises(Unreachable, match=str(status)):
        run.result()
    assert len(run.requests) == Retries().attempts


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7),
        ("Thu, 01 Jan 1970 00:16:45 GMT", 5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sat, 31 Jan 1970 00:16:40 GMT", 30 * 86_400),
        ("9" * 400, 366 * 86_400),
        ("soon", None),
        ("Thu, 99 Jan 1970 00:16:45 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, wait_s: float | None) -> None:
    """Both forms of the header count, and every value is bounded and raises nothing."""
    run = Run(calls.disconnect("c"), in_turn(Answer(503, b"{}", header, at=1000.0)), Retries(attempts=1))
    with pytest.raises(Unavailable) as caught:
        run.result()
    assert caught.value.retry_after_s == wait_s


ROOM = {"channels": {}, "users": []}
LOST_THEN: list[tuple[Any, Any, str, Any]] = [
    (
        calls.subscribe("c", ["b", "a"]),
        {"channels": ["a", "b", "old"], "subscribed_to": [], "channels_info": ROOM},
        "subscribed_to",
        ["a", "b"],
    ),
    (
        calls.unsubscribe("c", ["b", "a"]),
        {"channels": ["old"], "unsubscribed_from": [], "channels_info": ROOM},
        "unsubscribed_from",
        ["a", "b"],
    ),
    (calls.delete("u", channel="news"), {"uuid": "u", "found": False}, "found", True),
]


@pytest.mark.parametrize(("plan", "answer", "field", "done"), LOST_THEN)
def test_repeated_call_returns_its_first_outcome(plan: Any, answer: Any, field: str, done: Any) -> None:
    """A change that a repetition finds made counts as made by the attempt whose answer was lost."""
    assert getattr(Run(plan, in_turn(Unreachable("cut"), ok(answer))).result(), field) == done


def test_repeated_change_of_a_state_returns_all_its_keys() -> None:
    """A state that a lost attempt changed is returned as changed."""
    answer = ok({"user_state": {"mood": "good", "status": 3}, "changed_state": [], "public_keys": []})
    after = Run(calls.user_state("ann", {"mood": "good"}), in_turn(Unreachable("cut"), answer)).result()
    assert [(change.key, change.value) for change in after.changed_state] == [("mood", "good")]
    after = Run(calls.user_status("ann", 3), in_turn(Unreachable("cut"), answer)).result()
    assert [(change.key, change.value) for change in after.changed_state] == [("status", 3)]


def test_repeated_disconnect_has_ended_the_connection() -> None:
    """A connection that is unknown after a lost answer was ended by the lost attempt; a 429 changed nothing."""
    assert Run(calls.disconnect("c"), in_turn(Unreachable("cut"), ok(False))).result() is True
    assert Run(calls.disconnect("c"), in_turn(Answer(429, b"{}"), ok(False))).result() is False


TEXTS: list[Callable[[Any], Any]] = [
    lambda text: next(calls.connect("ann", text)),
    lambda text: next(calls.connect("ann", state_public_keys=text)),
    lambda text: next(calls.subscribe("c", text)),
    lambda text: next(calls.unsubscribe("c", text)),
    lambda text: next(calls.edit("u", pm_users=text)),
    lambda text: next(calls.edit("u", exclude_users=text)),
    lambda text: next(calls.delete("u", pm_users=text)),
    lambda text: next(calls.delete("u", exclude_users=text)),
    lambda text: next(calls.user_state("ann", {}, public_keys=text)),
    lambda text: Message(user="ann", message=1, pm_users=text),
    lambda text: Message(user="ann", message=1, exclude_users=text),
    lambda text: Info(channels=text),
    lambda text: Info(exclude_channels=text),
]


@pytest.mark.parametrize("call", TEXTS)
@pytest.mark.parametrize("text", ["news", b"news", ""])
def test_text_is_no_list_of_names(call: Callable[[Any], Any], text: Any) -> None:
    """A text in place of a list of names is refused, instead of being read as its letters."""
    with pytest.raises(TypeError, match=r"list of names.*write \["):
        call(text)


def test_any_iterable_of_names_is_a_list() -> None:
    """Sets, tuples and generators of names are sent as lists."""
    bodies = [
        next(calls.connect("ann", names)).body for names in (("news",), {"news"}, (n for n in ["news"]))
    ]
    assert [json.loads(body)["channels"] for body in bodies] == [["news"]] * 3
    whisper = next(calls.publish(Message(user="ann", message=1, pm_users={"bob"})))  # type: ignore[arg-type]
    assert json.loads(whisper.body)["pm_users"] == ["bob"]


class Serialized(OrderedDict[str, Any]):
    """A dict that is not made of pairs alone, like `serializer.data` of Django REST framework."""

    def __init__(self, *args: Any, serializer: object) -> None:
        super().__init__(*args)


class Query(dict[str, list[str]]):
    """A dict whose items are not those it holds, like Django's `QueryDict`."""

    def items(self) -> Any:
        return ((key, values[-1]) for key, values in super().items())


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (Serialized({"a": 1}, serializer=object()), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Query({"a": ["1", "2"]}), {"a": "2"}),
        (MappingProxyType({"a": (1, 2)}), {"a": [1, 2]}),
        (UserDict({"a": UserList([1])}), {"a": [1]}),
        (range(3), [0, 1, 2]),
        (Point(1), {"x": 1}),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"at": "2026-01-01T00:00:00+00:00"}),
        ({"\ud83d": "\\\ud83d é"}, {"\ud83d": "\\\ud83d é"}),
    ],
)
def test_any_mapping_and_sequence_is_a_payload(payload: Any, sent: Any) -> None:
    """Types of frameworks are sent as JSON, without being rebuilt first."""
    body = json.loads(next(calls.publish(Message(user="ann", channel="news", message=payload))).body)
    assert body["message"] == sent


@pytest.mark.parametrize("payload", [float("nan"), b"bytes", object(), {1j: 1}])
def test_batch_with_an_item_without_a_json_form_sends_nothing(payload: Any) -> None:
    """All messages are encoded before the first request, and the error names the one that cannot be."""
    good = [Message(user="ann", channel="news", message=n) for n in range(MAX_BATCH_MESSAGES)]
    run = Run(calls.publish_many([*good, Message(user="ann", channel="news", message=payload)]), accept_all)
    with pytest.raises((TypeError, ValueError)) as caught:
        run.result()
    assert run.requests == []
    assert f"message {MAX_BATCH_MESSAGES} " in caught.value.__notes__[-1]


def test_payload_is_encoded_once() -> None:
    """A message that is sent again is not made JSON again."""

    class Counted(Mapping[str, int]):
        reads = 0

        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            Counted.reads += 1
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    message = Message(user="ann", channel="news", message=Counted())
    Run(calls.publish(message), in_turn(Unreachable("cut"), Unreachable("cut"), ok(SENT))).result()
    Run(calls.publish_many([message]), in_turn(Unreachable("cut"), ok([SENT]))).result()
    assert Counted.reads == 2


def test_batches_are_bounded_in_number_and_bytes() -> None:
    """Many messages go in few requests, none beyond either bound, in their order."""
    small = [Message(user="ann", channel="news", message=number) for number in range(MAX_BATCH_MESSAGES + 1)]
    large = [Message(user="ann", channel="news", message="x" * (MAX_BATCH_BYTES // 2)) for _ in range(3)]
    run = Run(calls.publish_many([*small, *large]), accept_all)
    assert len(run.result()) == len(small) + len(large)
    assert [uuid["uuid"] for body in run.bodies() for uuid in body] == [m.uuid for m in [*small, *large]]
    assert [len(body) for body in run.bodies()] == [MAX_BATCH_MESSAGES, 2, 1, 1]
    assert all(len(request.body) <= MAX_BATCH_BYTES + 2 for request in run.requests)


def test_failure_after_a_batch_names_the_sent_messages() -> None:
    """When a later request fails, the error names the messages of the earlier ones."""
    messages = [Message(user="ann", channel="news", message=n) for n in range(MAX_BATCH_MESSAGES + 5)]
    answers = in_turn(ok([SENT] * MAX_BATCH_MESSAGES), Answer(422, b"{}"))
    with pytest.raises(PartlySent) as caught:
        Run(calls.publish_many(messages), answers).result()
    assert len(caught.value.sent) == MAX_BATCH_MESSAGES


def test_an_option_not_named_is_not_sent() -> None:
    """Settings and edits have only the named fields; a null in a state is a value."""
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
