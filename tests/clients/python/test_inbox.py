"""The queue of received events."""

import asyncio

from channelstream_client.inbox import MAX_BYTES, Inbox


def test_a_list_counts_its_bytes_once() -> None:
    """However many events it has."""

    async def life() -> None:
        inbox: Inbox[str] = Inbox()
        for _ in range(2):
            inbox.put([("one", "e-1"), ("two", "e-2"), ("three", "e-3")], MAX_BYTES)
            assert inbox.is_full
            assert [await inbox.take() for _ in range(3)] == [
                ("one", "e-1"),
                ("two", "e-2"),
                ("three", "e-3"),
            ]
            assert not inbox.is_full

    asyncio.run(life())


def test_what_was_cleared_is_not_taken() -> None:
    """A client that is closed hands out nothing more, and its queue has room."""

    async def life() -> None:
        inbox: Inbox[str] = Inbox()
        inbox.put([("one", "e-1")], MAX_BYTES)
        inbox.clear()
        assert inbox.is_empty
        assert not inbox.is_full
        inbox.close()
        assert await inbox.take() is None

    asyncio.run(life())
