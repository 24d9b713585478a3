"""Messages between two processes: whole, in order, with their descriptors, within bounds."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Iterator

import pytest
from tests.descriptors import few_descriptors, lowest_free, open_descriptors

from channelstream.errors import CannotHandOver, PeerEnded
from channelstream.upgrade.line import MAX_BODY_BYTES, MAX_DESCRIPTORS, VARIABLE, Line, Part

Ends = tuple[Line, Line]


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = Line.pair()
    yield pair
    for end in pair:
        end.close()


def both(sending: Awaitable[None], receiving: Awaitable[Part]) -> Part:
    """Send and receive at the same time: a long message fills the socket."""

    async def run() -> Part:
        return (await asyncio.gather(sending, receiving))[1]

    return asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES])
def test_a_message_arrives_as_it_was_sent(ends: Ends, size: int) -> None:
    """Up to the longest body, in both directions."""
    part = Part("stream", b"x" * size)
    for sender, receiver in (ends, ends[::-1]):
        assert both(sender.send(part), receiver.receive()) == part


def test_messages_keep_their_order_and_their_descriptors(ends: Ends) -> None:
    """Each descriptor leads to what its sender opened, and no program that is started inherits it."""
    sender, receiver = ends

    async def run() -> list[Part]:
        for number, descriptor in enumerate(pipe):
            await sender.send(Part(f"end-{number}", b"body", (descriptor,)))
        await sender.send(Part("end", b""))
        return [await receiver.receive() for _ in range(3)]

    pipe = os.pipe()
    received = asyncio.run(run())
    assert [part.kind for part in received] == ["end-0", "end-1", "end"]
    (reading,), (writing,) = (part.descriptors for part in received[:2])
    assert not os.get_inheritable(reading)
    os.write(writing, b"through")
    assert os.read(reading, 100) == b"through"
    for descriptor in (*pipe, reading, writing):
        os.close(descriptor)


def test_as_many_descriptors_as_allowed_arrive_together(ends: Ends) -> None:
    """No more can be sent."""
    sender, receiver = ends
    [most, more] = (Part("many", b"", (sender.socket.fileno(),) * count) for count in (MAX_DESCRIPTORS, 251))
    received = both(sender.send(most), receiver.receive())
    assert len(set(received.descriptors)) == MAX_DESCRIPTORS
    for descriptor in received.descriptors:
        os.close(descriptor)
    with pytest.raises(CannotHandOver, match="too large"):
        asyncio.run(sender.send(more))


@pytest.mark.parametrize("part", [Part("k" * 33), Part("kind", b"x" * (MAX_BODY_BYTES + 1))])
def test_a_message_that_is_too_large_is_not_sent(ends: Ends, part: Part) -> None:
    """Nothing of it, so that the line can be used further."""
    with pytest.raises(CannotHandOver, match="too large"):
        asyncio.run(ends[0].send(part))
    assert both(ends[0].send(Part("next")), ends[1].receive()) == Part("next")


def test_the_end_of_the_other_process_ends_the_wait(ends: Ends) -> None:
    """Also in the middle of a message, and for the one that sends."""
    ours, theirs = ends
    theirs.socket.send(b"\4")
    theirs.close()
    with pytest.raises(CannotHandOver, match="has ended"):
        asyncio.run(ours.receive())
    with pytest.raises(CannotHandOver, match="out of reach"):
        asyncio.run(ours.send(Part("kind", b"x" * MAX_BODY_BYTES)))


@pytest.mark.parametrize("head", [b"\x21\0\0\0\0\0", b"\4\0\x40\0\1\0"])
def test_lengths_out_of_bounds_are_refused(ends: Ends, head: bytes) -> None:
    """Before anything of that length is read."""
    ends[0].socket.send(head)
    with pytest.raises(CannotHandOver, match="no messages"):
        asyncio.run(ends[1].receive())


def test_descriptors_that_the_process_may_not_open_are_a_refusal(ends: Ends) -> None:
    """Those that came are closed."""
    sender, receiver = ends

    async def run() -> None:
        await sender.send(Part("many", b"", (sender.socket.fileno(),) * 200))
        with few_descriptors(lowest_free() + 20):
            await receiver.receive()

    before = open_descriptors()
    with pytest.raises(CannotHandOver, match="may not open so many"):
        asyncio.run(run())
    assert open_descriptors() == before


def test_a_wait_that_is_cancelled_leaves_nothing_behind(ends: Ends) -> None:
    """The descriptors of a message whose body does not come are closed."""
    sender, receiver = ends

    async def run() -> None:
        waiting = asyncio.get_running_loop().create_task(receiver.receive())
        socket.send_fds(sender.socket, [b"\4\0\0\0\1\1kin"], [sender.socket.fileno()])
        while open_descriptors() <= before:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert open_descriptors() == before

    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        before = open_descriptors()
        runner.run(run())


def test_a_new_process_inherits_its_end() -> None:
    """By the environment, from which it is removed; its own children do not inherit it."""
    ours, theirs = Line.pair()
    environ = theirs.bequeathed({"A": "1"})
    os.set_inheritable(theirs.socket.fileno(), True)
    inherited = Line.inherited(environ)
    theirs.socket.detach()
    assert inherited is not None
    assert (environ, os.get_inheritable(inherited.socket.fileno())) == ({"A": "1"}, False)
    assert both(inherited.send(Part("hello")), ours.receive()) == Part("hello")
    assert Line.inherited(environ) is None
    assert VARIABLE not in os.environ
    ours.close()
    inherited.close()


def test_too_many_descriptors_on_their_way_are_no_end_of_the_other_process() -> None:
    """The kernel refuses them (sendmsg(2))."""

    class Full:
        def setblocking(self, _flag: bool) -> None: ...

        def sendmsg(self, *_arguments: object) -> int:
            raise OSError(errno.ETOOMANYREFS, "Too many references")

    with pytest.raises(CannotHandOver, match="too many descriptors are on their way") as raised:
        asyncio.run(Line(Full()).send(Part("streams")))  # type: ignore[arg-type]
    assert not isinstance(raised.value, PeerEnded)
