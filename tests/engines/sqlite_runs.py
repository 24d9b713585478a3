"""SQLite engines of tests, and one file that is opened again and again."""

from itertools import count
from pathlib import Path

from tests.engines.conformance import ALL_FACTS, Recorder, Setup

from channelstream.apps.keys import is_member_key
from channelstream.core.registry import Registry
from channelstream.core.registry_limits import Lifetimes
from channelstream.engines.members import Member
from channelstream.engines.sqlite import SqliteEngine
from channelstream.wire.channelstream import V07


def sqlite_engine(path: Path, setup: Setup, begun: int = 0) -> SqliteEngine:
    ids = (f"id{number}" for number in count(begun))
    registry = Registry(setup.limits, lambda: next(ids), is_member_key)
    lifetimes = Lifetimes(setup.users_s, setup.channels_s)
    made = path, registry, setup.clock, lifetimes, lambda: next(ids), lambda: next(ids), setup.outbox
    return SqliteEngine(*made)


class Runs:
    """One file, opened again and again, as by a server that restarts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.setup = Setup(outbox=ALL_FACTS)
        self.begun = 0

    def engine(self) -> SqliteEngine:
        return sqlite_engine(self.path, self.setup, self.begun)

    async def open(self) -> tuple[SqliteEngine, Recorder]:
        self.begun += 1_000_000
        engine, recorder = self.engine(), Recorder()
        await engine.start(recorder)
        return engine, recorder


ANN = Member("1", "ann", V07)
