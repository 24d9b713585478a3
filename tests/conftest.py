"""Real server processes for tests that speak to them over real sockets, and how tests are shared among workers.

Each worker of pytest-xdist is a process with servers of its own; `tests/sharing.py` says which tests it is given.
"""

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from itsdangerous import TimestampSigner
from tests.compiled import IS_COMPILED, WARNING, left_out
from tests.durations import Durations
from tests.files_in_memory import keep_files_in_memory
from tests.fleet import Fleet
from tests.forked_programs import forked_programs
from tests.http_client import http
from tests.nursery import Child, nursery
from tests.pusher_calls import KIT
from tests.redis_server import RedisServer, cluster_address, redis_cluster, running_redis
from tests.reports import send_less
from tests.shared_servers import SharedServers
from tests.sharing import FleetEnds, Sharing, rank
from tests.slow_turns import SlowTurns
from tests.waiting import PATIENCE_S

from channelstream_client.testing.port import HeldPort

SECRET = "a-secret-of-the-tests"
ADMIN_SECRET = "an-admin-secret-of-the-tests"
READER_SECRET = "a-reader-secret-of-the-tests"
CLUSTER = "nodes-on-a-cluster"
SQLITE = "sqlite"
NODES = {1: "one-node", 3: "three-nodes", CLUSTER: CLUSTER, SQLITE: SQLITE}
SLOW_FIXTURES = {"start_server", "own_server", "redis", "three_nodes", "nodes_on_a_cluster"}
"""Fixtures that start processes for one test or one module."""
NOT_SLOW = "not slow"
"""What `make test-fast` chooses."""
ALL_SLOW = re.compile(r"^pytestmark = pytest\.mark\.(slow|browser)\b", re.MULTILINE)
"""In a file that has only slow tests."""
PATIENT = {
    **dict.fromkeys(
        ("UNATTACHED_TIMEOUT", "POLL_GAP", "DETACH_GRACE", "POLL_TIMEOUT", "PING_INTERVAL"), 3600
    ),
    **dict.fromkeys(("HEAD_TIMEOUT", "BODY_TIMEOUT", "KEEP_ALIVE"), 3600),
    **dict.fromkeys(("ENGINE_TIMEOUT", "NODE_LEASE", "UPGRADE_PAUSE"), 60),
}
"""Seconds after which a server ends something by itself: more than any test takes, however slow the machine.

A test whose subject is one of these times gives its own.
"""
SLOW_TURN_MS = 500.0
"""A turn that counts as slow in a server of the tests. A busy machine makes shorter ones. A server that only waits takes
0.27 % of a processor with this bound and 0.43 % with 250 ms, and several wait throughout a run."""
FAST_EXAMPLES = 25
"""Examples of a property in `make test-fast`; `make test` tries 100."""
RUNNING = re.compile(r"running on (?:https?://[^ ]*?:(\d+)|unix socket) ")


@dataclass
class RunningServer:
    """A server in a process of its own.

    Attributes:
        url: where it listens, without a slash at the end.
        port: 0 means that it listens on a unix socket.
        lines: what it has logged until it was ready.
    """

    process: Child
    port: int
    lines: list[str]
    secret: str = SECRET
    admin_secret: str = ADMIN_SECRET
    reader_secret: str = READER_SECRET

    @property
    def any(self) -> "RunningServer":
        """Itself; of several nodes it would be one of them."""
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def sign(self, path: str) -> dict[str, str]:
        """Headers of a signed request."""
        return {"x-channelstream-secret": TimestampSigner(self.secret).sign(path).decode()}

    def request(self, method: str, path: str, payload: Any = None, **options: Any) -> httpx.Response:
        """Send a signed request; `headers` in options come on top of the signature."""
        headers = self.sign(path.partition("?")[0]) | options.pop("headers", {})
        return http.request(method, self.url + path, json=payload, headers=headers, **options)

    def post(self, path: str, payload: Any = None, **options: Any) -> Any:
        """Send a signed POST that must succeed and return its answer."""
        response = self.request("POST", path, payload, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def connect(self, user: str, *channels: str, **more: Any) -> str:
        """Register a connection and return its id."""
        conn_id: str = self.post("/connect", {"username": user, "channels": list(channels), **more})[
            "conn_id"
        ]
        return conn_id

    def log(self) -> str:
        """The log lines since the last read of this property; the next reader must find the pipe blocking, as it was."""
        assert self.process.stdout is not None
        descriptor, log = self.process.stdout.fileno(), b""
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):  # The pipe is empty.
            while data := os.read(descriptor, 65_536):
                log += data
        os.set_blocking(descriptor, True)
        return log.decode()

    def stop(self) -> tuple[int, str]:
        """End the process as Ctrl-C does; return its exit code and the rest of its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, rest


StartServer = Callable[..., RunningServer]


def launch(*flags: str, **environ: str) -> RunningServer:
    """Start a server on a free port, with `PATIENT` times, and wait until it listens.

    Args:
        flags: of the command line; they win over the environment.
        environ: variables, which win over those of `PATIENT`.
    """
    patient = {f"CHANNELSTREAM_{name}_S": str(time_s) for name, time_s in PATIENT.items()}
    patient["CHANNELSTREAM_SLOW_TURN_MS"] = str(SLOW_TURN_MS)
    patient["CHANNELSTREAM_ADMIN_READER_SECRET"] = READER_SECRET
    patient |= {f"CHANNELSTREAM_PUSHER_{name}": text for name, text in KIT.items()}
    arguments = ["-p", "0", "-s", SECRET, "-a", ADMIN_SECRET, *flags]
    process = nursery().start(arguments, os.environ | patient | environ)
    try:
        port, lines = _wait_until_running(process)
    except BaseException:
        process.kill()
        process.stdout.close()
        raise
    return RunningServer(process, port, lines)


def _wait_until_running(process: Child) -> tuple[int, list[str]]:
    lines = []
    while line := process.line(PATIENCE_S):
        lines.append(line)
        if found := RUNNING.search(line):
            return int(found[1] or 0), lines
    raise AssertionError("the server did not start:\n" + "".join(lines))


def pytest_configure(config: pytest.Config) -> None:
    """Give every child process the same start, however the run itself was started.

    SIGINT has its default action, though a shell ignores it for what runs behind `&`. Bytecode is cached, though the
    environment may forbid it: without it every server compiles all its source, which triples the time of its start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if IS_COMPILED:
        config.addinivalue_line("filterwarnings", WARNING)
    keep_files_in_memory()
    config.pluginmanager.register(Durations())
    config.pluginmanager.register(SlowTurns(), "slow-turns")
    config.pluginmanager.register(SharedServers(hasattr(config, "workerinput")), "shared-servers")
    if hasattr(config, "workerinput"):
        send_less(config)
        config.pluginmanager.register(FleetEnds())
    # A busy machine may take any time for an example.
    hypothesis.settings.register_profile("channelstream", deadline=None)
    hypothesis.settings.register_profile("fast", deadline=None, max_examples=FAST_EXAMPLES)
    hypothesis.settings.load_profile(config.getoption("hypothesis_profile", None) or "channelstream")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `nodes(1, 3, CLUSTER)` against one server, three on one Redis, and three on a Redis cluster."""
    marker = metafunc.definition.get_closest_marker("nodes")
    if marker is not None and "server" in metafunc.fixturenames:
        metafunc.parametrize("server", marker.args, ids=lambda count: NODES[count], indirect=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files for `make test-fast` of which it would run no test."""
    if config.option.markexpr != NOT_SLOW or collection_path.suffix != ".py":
        return None
    return ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) is not None or None


@pytest.hookimpl(tryfirst=True)  # Before pytest chooses by marks.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that `make test-fast` leaves out; in a worker, let those begin that take longest."""
    for item in items:
        assert isinstance(item, pytest.Function)
        fleet = NODES.get(item.callspec.params.get("server")) if hasattr(item, "callspec") else None
        is_slow = SLOW_FIXTURES.intersection(item.fixturenames) or item.get_closest_marker("browser")
        if is_slow or fleet not in (None, NODES[1]):
            item.add_marker("slow")
        if IS_COMPILED and (reason := left_out(item)):
            item.add_marker(pytest.mark.skip(reason=reason))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what lives until the end: thousands of tests, now and in every full collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing | None:
    config.option.loadscopereorder = False
    return Sharing(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def slow_turns(pytestconfig: pytest.Config) -> SlowTurns:
    plugin = pytestconfig.pluginmanager.get_plugin("slow-turns")
    assert isinstance(plugin, SlowTurns)
    return plugin


@pytest.fixture(scope="session")
def one_node(slow_turns: SlowTurns) -> Iterator[RunningServer]:
    """One server for all tests that can share it."""
    running = launch()
    yield running
    slow_turns.note("one node", [running])
    running.stop()


@pytest.fixture(scope="session")
def shared_servers(pytestconfig: pytest.Config) -> SharedServers:
    plugin = pytestconfig.pluginmanager.get_plugin("shared-servers")
    assert isinstance(plugin, SharedServers)
    return plugin


@pytest.fixture
def one_on_sqlite(
    shared_servers: SharedServers, slow_turns: SlowTurns, tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    """One server whose log is in a file, for all tests that can share it."""

    @contextmanager
    def start() -> Iterator[RunningServer]:
        running = launch("--engine", f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'log.db'}")
        yield running
        slow_turns.note("one on SQLite", [running])
        running.stop()

    return shared_servers.get("one on SQLite", start)


@pytest.fixture
def bench_forks() -> Iterator[None]:
    """Let a bench in this process start its programs as forks."""
    with forked_programs():
        yield


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests of a file; where there is no `redis-server` they are skipped."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def fleet(directory: Path) -> Iterator[Fleet]:
    """Three servers on a Redis of their own; where there is no `redis-server` the test is skipped."""
    with running_redis(directory) as redis, _fleet_on(redis.address) as running:
        yield running


@contextmanager
def _fleet_on(address: str) -> Iterator[Fleet]:
    with ExitStack() as stack:
        nodes = []
        for _ in range(3):
            nodes.append(launch("--engine", address))
            stack.callback(nodes[-1].stop)
        yield Fleet(nodes)


@contextmanager
def _watched(name: str, slow_turns: SlowTurns, start: AbstractContextManager[Fleet]) -> Iterator[Fleet]:
    """Note the slow turns of a fleet before it ends; none of its nodes may log a traceback."""
    with start as running:
        yield running
        slow_turns.note(name, running.nodes)
        code, log = running.stop()
    assert (code, "Traceback" in log) == (0, False), log


@pytest.fixture
def three_nodes(
    shared_servers: SharedServers, slow_turns: SlowTurns, tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    """Three servers on one Redis, for all tests that can share them."""

    def start() -> AbstractContextManager[Fleet]:
        return _watched("three nodes", slow_turns, fleet(tmp_path_factory.mktemp("redis")))

    return shared_servers.get("three nodes", start)


@contextmanager
def _fleet_on_a_cluster(directory: Path) -> Iterator[Fleet]:
    with redis_cluster(directory, 3) as masters, _fleet_on(cluster_address(masters)) as running:
        yield running


@pytest.fixture
def nodes_on_a_cluster(
    shared_servers: SharedServers, slow_turns: SlowTurns, tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    """Three servers whose log is in three shards, each in a master of a Redis cluster."""

    def start() -> AbstractContextManager[Fleet]:
        return _watched(
            "nodes on a cluster", slow_turns, _fleet_on_a_cluster(tmp_path_factory.mktemp("cluster"))
        )

    return shared_servers.get("nodes on a cluster", start)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RunningServer | Fleet:
    """The shared server; where the test is marked so, three that are one."""
    kind = getattr(request, "param", 1)
    if kind in (1, SQLITE):
        return request.getfixturevalue("one_node" if kind == 1 else "one_on_sqlite")  # type: ignore[no-any-return]
    fleet: Fleet = request.getfixturevalue("three_nodes" if kind == 3 else "nodes_on_a_cluster")
    fleet.begin(f"{request.path.name} {request.node.name}")
    return fleet


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Paths of a certificate for 127.0.0.1, signed by itself, and of its key."""
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    # It signs certificates of other tests, too; CPython 3.13 demands that it says so.
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", *usage]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def port() -> Iterator[str]:
    """A port for a server that ends and starts again: no other program gets it meanwhile."""
    with HeldPort() as held:
        yield str(held.number)


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start servers of one's own, with flags; they end with the test."""
    started: list[RunningServer] = []

    def start(*flags: str, **environ: str) -> RunningServer:
        started.append(launch(*flags, **environ))
        return started[-1]

    yield start
    for running in started:
        running.stop()
