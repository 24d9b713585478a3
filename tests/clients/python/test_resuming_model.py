"""The resuming client against a model of a server, with ends at random: every event is handed out once and in order."""

from random import Random

from channelstream_client.protocol import (
    LOST,
    OVERLOADED,
    RESTARTING,
    SLOW,
    UNKNOWN_CONNECTION,
    Item,
    StreamEnded,
    refused,
)
from channelstream_client.resuming import OpenStream, RenewConnection, ResumingClient, Wait

EVENTS = 40
SEEDS = 150
MOST_STEPS = 2_000
LONGEST_WAIT_S = 330.0
"""Five minutes of `Retry-After`, and the longest step."""
ENDS = (
    StreamEnded(LOST, "cut"),
    StreamEnded(RESTARTING, ""),
    StreamEnded(OVERLOADED, ""),
    StreamEnded(SLOW, ""),
    StreamEnded(UNKNOWN_CONNECTION, ""),
    refused(404, "", b"", 0.0),
    refused(503, "7", b"", 0.0),
    refused(429, "86400", b"", 0.0),
)


class Model:
    """A server that keeps all events, its network, and an application with a handler that is too slow at times.

    Attributes:
        handed_out: numbers of the events that the application got.
        drops: the application has no room, so that what the stream brings is discarded.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.client = ResumingClient(
            "", "c0", ["ws", "sse", "poll"], self.random.random, position="e-0", can_renew=True
        )
        self.now = 0.0
        self.drops = False
        self.handed_out: list[int] = []
        self.conn_ids = {"c0"}

    def play(self) -> None:
        """Do steps until the application has all events."""
        for _ in range(MOST_STEPS):
            match self.client.next_step(self.now):
                case OpenStream() as opening:
                    assert opening.conn_id in self.conn_ids
                    self.stream(opening)
                case RenewConnection(position=position):
                    assert position == f"e-{len(self.handed_out)}"
                    self.renew()
                case Wait(wait_s=wait_s):
                    assert 0 <= wait_s <= LONGEST_WAIT_S
                    self.now += wait_s
                case step:
                    raise AssertionError(step)
            if len(self.handed_out) == EVENTS:
                return
        raise AssertionError(f"only {len(self.handed_out)} events after {MOST_STEPS} steps")

    def renew(self) -> None:
        conn_id = f"c{len(self.conn_ids)}"
        self.conn_ids = {conn_id, *self.conn_ids}
        self.client.renewed(conn_id, "e-99")

    def stream(self, opening: OpenStream[str]) -> None:
        """Send what follows the position until the stream ends, or the one list of a poll."""
        if self.random.random() < 0.3:
            self.end()
            return
        after = int(opening.position.removeprefix("e-"))
        self.receive({"type": "resumed", "position": opening.position, "recovered": [""], "lost": []})
        while self.client.is_reading:
            self.now += self.random.choice((0.0, 0.1, 20.0))
            count = min(self.random.randrange(4), EVENTS - after)
            self.receive(*(event(after + number) for number in range(1, count + 1)))
            after += count
            self.go_on(opening.transport)

    def go_on(self, transport: str) -> None:
        """Do what drivers do after a list."""
        if self.client.leave_at is not None and self.now >= self.client.leave_at:
            self.leave(to_upgrade=True)
        elif self.drops and self.random.random() < 0.3:
            self.leave(to_upgrade=False)
        elif self.random.random() < 0.2:
            self.end()
        elif transport == "poll":
            self.client.answered(self.now)

    def leave(self, to_upgrade: bool) -> None:
        self.client.left(self.now, to_upgrade)
        self.drops = False

    def end(self) -> None:
        self.drops = False
        end = self.random.choice(ENDS)
        if end.status is None and self.random.random() < 0.5:
            self.receive({"type": "closing", "code": end.code, "reason": ""})
        else:
            self.client.ended(end, self.now)

    def receive(self, *items: Item) -> None:
        """Let the client receive a list. From one that is discarded on, all that its stream brings is."""
        self.drops = self.drops or self.random.random() < 0.1
        for item in self.client.received(list(items), self.now, keep=not self.drops):
            if item["type"] == "message":
                self.handed_out.append(item["message"])


def event(number: int) -> Item:
    return {"type": "message", "message": number, "position": f"e-{number}"}


def test_every_event_is_handed_out_once_and_in_order() -> None:
    """Whatever ends streams, on whichever transport, and however slow the application is."""
    for seed in range(SEEDS):
        model = Model(seed)
        try:
            model.play()
            assert model.handed_out == list(range(1, EVENTS + 1))
        except BaseException as error:
            error.add_note(f"Repeat with Model({seed})")
            raise
