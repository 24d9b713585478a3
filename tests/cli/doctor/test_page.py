"""docs/doctor.md has what `doctor` says about ten broken set-ups; `make doctor-page` writes it again."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.cli.doctor.report import SECRETS, made_certificate
from tests.conftest import RunningServer
from tests.proxies import Proxy
from tests.redis_server import RedisServer

from channelstream.cli import main
from channelstream_client.testing.port import HeldPort

PAGE = Path(__file__).parents[3] / "docs/doctor.md"
WRITE = "WRITE_DOCTOR_PAGE"
"""The variable with which the page is written instead of compared."""
OF_THE_MACHINE = "descriptors"
"""The check that depends on the machine of the test; it is left out."""
WEAK_FILE = "[channelstream]\nsecret = hunter2hunter2\nadmin_secret = hunter2hunter2\n"
BUFFERS = ("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
DROPS_UPGRADES = (r"    proxy_set_header Upgrade \$http_upgrade;\n", "")
SOME_PATIENCE = ("--wait-s", "5")
"""For the first bytes of the long poll, which arrive; those of the event stream never do."""
CONFIG_ONLY = "--config-only"


class Stage:
    """Makes what is broken, and remembers what stands on the page in place of its addresses and paths."""

    def __init__(self, directory: Path, node: RunningServer, until_end: ExitStack) -> None:
        self.node = node
        self.shown = {node.url: "http://127.0.0.1:8000", f"-p {node.port}": "-p 8000"}
        self._directory = directory
        self._until_end = until_end

    def public_defaults(self) -> list[str]:
        return [CONFIG_ONLY, "--trusted-proxies", "127.0.0.1"]

    def weak_file(self) -> list[str]:
        path = self._directory / "channelstream.ini"
        path.write_text(WEAK_FILE)
        path.chmod(0o644)
        self.shown[str(path)] = "/etc/channelstream.ini"
        return [CONFIG_ONLY, "-i", str(path)]

    def https_of_nobody(self) -> list[str]:
        return [CONFIG_ONLY, *SECRETS, "--enforce-https", "true"]

    def trusted_everybody(self) -> list[str]:
        return [CONFIG_ONLY, *SECRETS, "--trusted-proxies", "0.0.0.0/0"]

    def no_directory(self) -> list[str]:
        missing = self._directory / "state"
        self.shown[str(missing)] = "/var/lib/channelstream"
        return [CONFIG_ONLY, *SECRETS, "--engine", f"sqlite:///{missing}/state.db"]

    def evicting_redis(self) -> list[str]:
        redis = RedisServer(self._directory / "redis", "--save", "", "--maxmemory-policy", "allkeys-lru")
        redis.start()
        self._until_end.callback(redis.kill)
        self.shown[redis.address] = "redis://127.0.0.1:6379"
        return [CONFIG_ONLY, *SECRETS, "--engine", redis.address, "--cookie-secret", "of-the-tests-of-doctor"]

    def expired_certificate(self) -> list[str]:
        flags = made_certificate(self._directory, -1)
        self.shown[str(self._directory)] = "/etc/ssl"
        return [CONFIG_ONLY, *SECRETS, *flags]

    def nothing_runs(self) -> list[str]:
        port = self._until_end.enter_context(HeldPort()).number
        self.shown |= {f"127.0.0.1:{port}": "127.0.0.1:8000", f"-p {port}": "-p 8000"}
        return [*SECRETS, "-p", str(port)]

    def another_secret(self) -> list[str]:
        return ["-s", "another-secret-of-the-tests", *SECRETS[2:], "-p", str(self.node.port)]

    def buffering_proxy(self) -> list[str]:
        proxy = Proxy(self._directory, "nginx", self.node.port, [BUFFERS, DROPS_UPGRADES])
        self._until_end.callback(proxy.stop)
        url = f"http://127.0.0.1:{proxy.port}"
        self.shown[url] = "https://push.example.com"
        flags = ["-p", str(self.node.port), "--url", url, "--trusted-proxies", "127.0.0.1"]
        return [*SECRETS, *flags, *SOME_PATIENCE]


SET_UPS: dict[str, Callable[[Stage], list[str]]] = {
    "Public secrets behind a proxy": Stage.public_defaults,
    "Weak secrets in a file that all users may read": Stage.weak_file,
    "HTTPS that nobody can speak": Stage.https_of_nobody,
    "Every address is a trusted proxy": Stage.trusted_everybody,
    "No directory for the database": Stage.no_directory,
    "A Redis that deletes keys": Stage.evicting_redis,
    "An expired certificate": Stage.expired_certificate,
    "A server that does not run": Stage.nothing_runs,
    "Another secret than that of the server": Stage.another_secret,
    "A proxy that buffers and drops upgrades": Stage.buffering_proxy,
}


@pytest.fixture
def stage(tmp_path: Path, one_node: RunningServer) -> Iterator[Stage]:
    with ExitStack() as until_end:
        yield Stage(tmp_path, one_node, until_end)


def section(name: str, argv: list[str], output: str, shown: dict[str, str]) -> str:
    """Return the section of a set-up: the command without its secrets, and its findings."""
    secrets = re.compile(r" (-s|-a|--cookie-secret) \S+")
    text = f"$ channelstream doctor{secrets.sub('', ' ' + ' '.join(argv))}\n{findings(output)}"
    for found, instead in shown.items():
        text = text.replace(found, instead)
    return f"## {name}\n\n```\n{text}\n```\n"


def findings(output: str) -> str:
    """Return what is not all right, with the advice below each."""
    lines, is_kept = [], False
    for line in output.splitlines()[:-1]:
        if not line.startswith(" "):
            level, check = line.split(":")[0].split(maxsplit=1)
            is_kept = level != "ok" and check != OF_THE_MACHINE
        lines += [line] if is_kept else []
    return "\n".join(lines)


def put(page: str, text: str) -> str:
    """Return the page with a section in place of the one that has its name; at the end if there is none."""
    head = re.escape(text.partition("\n")[0])
    former = re.compile(rf"^{head}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    after = text + "\n"
    return former.sub(lambda _: after, page) if former.search(page) else page.rstrip() + "\n\n" + text


@pytest.mark.slow
@pytest.mark.parametrize("name", SET_UPS)
def test_the_page_has_what_doctor_says(name: str, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    argv = SET_UPS[name](stage)
    assert main(["doctor", *argv], {}) == 1
    found = section(name, argv, capsys.readouterr().out, stage.shown)
    page = PAGE.read_text()
    if WRITE in os.environ:
        PAGE.write_text(put(page, found).rstrip() + "\n")
    else:
        assert found in page, "`make doctor-page` writes the page again"


def test_the_page_shows_no_other_set_up() -> None:
    assert re.findall(r"^## (.*)", PAGE.read_text(), re.MULTILINE) == list(SET_UPS)
