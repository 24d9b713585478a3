"""Every fault of a client of Pusher that the protocol names, and what the server answers.

`python -m tests.transports.pusher_faults` runs them against a server of its own, and prints the table of the answers.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.pusher_client import PusherClient, address, line
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ANN = '{"user_id":"ann"}'
ERROR = ("error null",)
UNSIGNED = ("subscription_error AuthError 401", "error null")
"""There are clients that read only the first, and others that read only the second."""
NO_CHANNEL = ("subscription_error InvalidChannel 400", "error null")
NOT_SIGNED_IN = ("error 4009",)


class Fault(NamedTuple):
    """What a client does wrong on an open line, which stays open.

    Attributes:
        does: sends it.
        answers: what the client is sent, as `described`.
    """

    name: str
    does: Callable[[PusherClient], Any]
    answers: tuple[str, ...]


def described(frame: Any) -> str:
    """Return the kind of a frame, with the codes in it."""
    event, data = frame["event"], frame.get("data")
    if event == "pusher:error":
        assert isinstance(data, dict)
        assert isinstance(data["message"], str)
        assert "channel" not in frame
        return f"error {json.dumps(data['code'])}"
    if event == "pusher:subscription_error":
        data = json.loads(data)
        assert isinstance(data["error"], str)
        return f"subscription_error {data['type']} {data['status']}"
    return str(event)


def subscribes(data: Any) -> Callable[[PusherClient], Any]:
    return lambda client: client.sends("pusher:subscribe", data)


def joins(channel: str, channel_data: Any, signed: str | None = None) -> Callable[[PusherClient], Any]:
    """Subscribe with a good signature, over `signed` if it is another text."""

    def does(client: PusherClient) -> None:
        text = channel_data if signed is None else signed
        data = {"channel": channel, "auth": client.auth(channel, text if isinstance(text, str) else None)}
        client.sends("pusher:subscribe", data | {"channel_data": channel_data})

    return does


def shows(auth: Callable[[PusherClient], Any], channel: str = "private-a") -> Callable[[PusherClient], Any]:
    return lambda client: client.sends("pusher:subscribe", {"channel": channel, "auth": auth(client)})


def sends(text: str) -> Callable[[PusherClient], Any]:
    return lambda client: client.stream.send(text)


def event(name: str, channel: Any = "private-open", data: Any = 1) -> Callable[[PusherClient], Any]:
    return lambda client: client.sends(name, data, channel=channel)


def signs_in(user_data: Any, auth: str | None = None) -> Callable[[PusherClient], Any]:
    def does(client: PusherClient) -> None:
        own = client.user_auth(user_data if isinstance(user_data, str) else "")
        client.sends("pusher:signin", {"auth": own if auth is None else auth, "user_data": user_data})

    return does


def too_many(client: PusherClient) -> None:
    """Send eleven events at once, of which the last one is one too many, however slow the machine: twice as many more."""
    for number in range(33):
        client.sends("client-a", number, channel="private-open")


FAULTS = (
    Fault("signature: none", subscribes({"channel": "private-a"}), UNSIGNED),
    Fault("signature: no text", shows(lambda _: 7), UNSIGNED),
    Fault("signature: of another channel", shows(lambda client: client.auth("private-b")), UNSIGNED),
    Fault(
        "signature: other key", shows(lambda client: client.auth("private-a").replace("kit", "x")), UNSIGNED
    ),
    Fault("signature: cut", shows(lambda client: client.auth("private-a")[:-1]), UNSIGNED),
    Fault("signature: of other data", joins("presence-a", ANN, '{"user_id":"bob"}'), UNSIGNED),
    Fault("presence: no channel_data, not signed in", joins("presence-a", None), UNSIGNED),
    Fault("presence: channel_data no JSON", joins("presence-a", "x"), UNSIGNED),
    Fault("presence: channel_data no object", joins("presence-a", "[]"), UNSIGNED),
    Fault("presence: channel_data no text", joins("presence-a", {"user_id": "ann"}), UNSIGNED),
    Fault("presence: no user_id", joins("presence-a", "{}"), UNSIGNED),
    Fault("presence: user_id a list", joins("presence-a", '{"user_id":["ann"]}'), UNSIGNED),
    Fault("presence: user_id of 129", joins("presence-a", json.dumps({"user_id": "x" * 129})), UNSIGNED),
    Fault(
        "presence: user_info of 2049 bytes",
        joins("presence-a", json.dumps({"user_id": "ann", "user_info": "x" * 2047})),
        UNSIGNED,
    ),
    Fault("name: a blank", subscribes({"channel": "a b"}), NO_CHANNEL),
    Fault("name: a slash", subscribes({"channel": "pusher/a"}), NO_CHANNEL),
    Fault("name: empty", subscribes({"channel": ""}), NO_CHANNEL),
    Fault("name: of 201", subscribes({"channel": "x" * 201}), NO_CHANNEL),
    Fault("name: another user's channel", subscribes({"channel": "#server-to-user-ann"}), NO_CHANNEL),
    Fault("already subscribed", subscribes({"channel": "open"}), ERROR),
    Fault("channel no text", subscribes({"channel": 7}), ERROR),
    Fault("no channel", subscribes({}), ERROR),
    Fault("no data", subscribes(None), ERROR),
    Fault("data a text (soketi 1.6.1 dies)", subscribes("open"), ERROR),
    Fault("data a list", subscribes([{"channel": "b"}]), ERROR),
    Fault("unsubscribe: not subscribed", lambda it: it.sends("pusher:unsubscribe", {"channel": "b"}), ERROR),
    Fault("unsubscribe: no data", lambda it: it.sends("pusher:unsubscribe"), ERROR),
    Fault("client event: public channel", event("client-a", "open"), ERROR),
    Fault("client event: not subscribed", event("client-a", "private-b"), ERROR),
    Fault("client event: no channel", event("client-a", None), ERROR),
    Fault("client event: name of 201", event("client-" + "x" * 194), ERROR),
    Fault("client event: data of 10,241 bytes", event("client-a", data="x" * 10_241), ERROR),
    Fault("client event: more than 10 a second", too_many, ("error 4301",)),
    Fault("not JSON", sends("x"), ERROR),
    Fault("an empty text", sends(""), ERROR),
    Fault("not an object", sends("[]"), ERROR),
    Fault("a list of events", sends('[{"event":"pusher:ping"}]'), ERROR),
    Fault("very deep nesting", sends("[" * 60_000), ERROR),
    Fault("very deep data", sends('{"event":"pusher:subscribe","data":' + "[" * 60_000 + "}"), ERROR),
    Fault("no event", sends("{}"), ERROR),
    Fault("event no text", sends('{"event":7}'), ERROR),
    Fault("unknown pusher: event", event("pusher:x"), ERROR),
    Fault("an event of the server", event("pusher_internal:member_added", "presence-a"), ERROR),
    Fault("a name without client-", event("hi"), ERROR),
    Fault("sign-in: bad signature", signs_in('{"id":"ann"}', "kit-key:x"), NOT_SIGNED_IN),
    Fault("sign-in: user_data no object", signs_in("[]"), NOT_SIGNED_IN),
    Fault("sign-in: no id", signs_in("{}"), NOT_SIGNED_IN),
    Fault("sign-in: empty id", signs_in('{"id":""}'), NOT_SIGNED_IN),
    Fault("sign-in: id no text", signs_in('{"id":7}'), NOT_SIGNED_IN),
    Fault("sign-in: no data", signs_in(None), NOT_SIGNED_IN),
)


def answers(client: PusherClient, fault: Fault) -> list[str]:
    """Return what a client is answered; a line that is closed raises.

    Args:
        client: is in the channels `open` and `private-open`.
    """
    fault.does(client)
    client.sends("pusher:ping")
    found: list[str] = []
    while (kind := described(client.next())) != "pusher:pong":
        found.append(kind)
    return found


class Refusal(NamedTuple):
    """A line that is not opened.

    Attributes:
        query: of the request.
        headers: of the request.
        code: with which it is closed.
    """

    name: str
    code: int
    key: str = "kit-key"
    query: str = "protocol=7"
    headers: Mapping[str, str] = MappingProxyType({})


REFUSALS = (
    Refusal("unknown key", 4001, key="other"),
    Refusal("unknown key without a version", 4001, key="other", query=""),
    Refusal("`protocol` absent", 4008, query="client=js"),
    Refusal("protocol 4", 4007, query="protocol=4"),
    Refusal("protocol 8", 4007, query="protocol=8"),
    Refusal("protocol empty", 4007, query="protocol="),
    Refusal("Origin not allowed", 4009, headers={"Origin": "https://elsewhere.example"}),
)


def refused(server: Any, refusal: Refusal) -> tuple[int | None, str | None]:
    """Return code and reason with which a line is closed after the handshake."""
    url = address(server, refusal.key, refusal.query)
    with connect(url, additional_headers=refusal.headers, compression=None) as stream:
        try:
            stream.recv()
        except ConnectionClosed:
            return stream.close_code, stream.close_reason
    raise AssertionError("it was opened")


def _report() -> None:
    """Print what a server answers to each fault."""
    from tests.conftest import launch

    server = launch(CHANNELSTREAM_ALLOW_CORS="https://here.example")
    try:
        print("| fault | answer |\n| --- | --- |")
        for refusal in REFUSALS:
            code, reason = refused(server, refusal)
            print(f"| {refusal.name} | close {code}: {reason} |")
        for fault in FAULTS:
            with line(server) as client:
                client.joins("open")
                client.joins("private-open")
                found = dict.fromkeys(answers(client, fault))
            print(f"| {fault.name} | {'; '.join(found)}; the line stays open |")
    finally:
        server.stop()


if __name__ == "__main__":
    _report()
