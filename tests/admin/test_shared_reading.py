"""Readings that pages share: their number, and their age."""

import asyncio

import pytest

from channelstream.admin.shared_reading import AGE_S, SharedReading
from channelstream.errors import Unavailable


class Source:
    """Counts its reads, at a time that a test sets; a read takes a turn of the event loop."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.reads = 0
        self.fails = False
        self.shared = SharedReading(self._read, lambda: self.now_s)

    async def _read(self) -> int:
        await asyncio.sleep(0)
        self.reads += 1
        if self.fails:
            raise Unavailable("The engine is out of reach.")
        return self.reads


def test_pages_that_ask_at_once_share_a_reading() -> None:
    """However many they are, until it is too old."""

    async def main() -> None:
        source = Source()
        assert await asyncio.gather(*(source.shared.get() for _ in range(32))) == [1] * 32
        source.now_s += AGE_S / 2
        assert await source.shared.get() == 1
        source.now_s += AGE_S / 2
        assert await source.shared.get() == 2

    asyncio.run(main())


def test_a_reading_that_fails_is_not_kept() -> None:
    """The next page reads again."""

    async def main() -> None:
        source = Source()
        source.fails = True
        with pytest.raises(Unavailable):
            await source.shared.get()
        source.fails = False
        assert await source.shared.get() == 2

    asyncio.run(main())
