"""The image recipe at the root: what reaches its build, what its steps make, and how its program runs and stops."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.config.reading import load_settings
from tests.conftest import RUNNING, RunningServer
from tests.container import SITE, Container, Image, why_not
from tests.nursery import nursery
from tests.recipe import Ignored, stages
from tests.waiting import PATIENCE_S, eventually

from channelstream.config import OPTIONS
from channelstream.health import health_routes
from channelstream.server import build
from channelstream_client.testing.port import HeldPort

ROOT = Path(__file__).parents[1]
BUILD, FINAL = stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
IGNORED = Ignored((ROOT / ".dockerignore").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATA = "/var/lib/channelstream"
PRIVATE = (
    *(".env", "channelstream.ini", "examples/deploy/.env", ".git/config", ".venv/pyvenv.cfg", "state.db"),
    *(
        "src/.env",
        "src/channelstream.ini",
        "src/state.db-wal",
        "clients/python/key.pem",
        "clients/python/production.env",
    ),
    *("src/channelstream/__pycache__/server.cpython-311.pyc", "clients/python/build/lib/old.py"),
)
"""Files of a working directory that an image must not have."""


def written(folder: str) -> set[str]:
    """Return the files of a folder that people wrote."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    made = re.compile(r"__pycache__|\.egg-info|^build$|^dist$|^\.")
    return {path.as_posix() for path in paths if not any(made.search(part) for part in path.parts)}


def copied() -> set[str]:
    """Return what the first stage copies."""
    return {source for each in BUILD.all("COPY") for source in each.words[:-1]}


# -- the recipe


def test_a_build_gets_what_it_copies_and_nothing_else() -> None:
    """All that the project's own file and links name is among it."""
    folders, files = {"src", "clients/python"}, {"setup.py", PROJECT["readme"], *PROJECT["license-files"]}
    linked = {
        (ROOT / name).resolve().relative_to(ROOT).as_posix()
        for name in written("src")
        if (ROOT / name).is_symlink()
    }
    assert copied() == {"pyproject.toml", *folders, *files, *linked}
    assert IGNORED.context(ROOT) == (copied() - folders).union(*map(written, folders))


def test_settings_and_data_of_a_working_directory_stay_out(tmp_path: Path) -> None:
    """Wherever they lie."""
    for name in (*PRIVATE, "src/channelstream/server.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert IGNORED.context(tmp_path) == {"src/channelstream/server.py"}


def test_the_last_pattern_that_matches_decides() -> None:
    """For a file, and for what is below a folder."""
    ignored = Ignored("*\n!kept\n!docs/one.md\n# !other\n**/*.ini\n")
    paths = ("kept/a/b.py", "docs/one.md", "docs/two.md", "kept/a/b.ini", "b.ini", "other")
    assert [path for path in paths if path not in ignored] == ["kept/a/b.py", "docs/one.md"]


def test_both_stages_have_one_base_with_a_version() -> None:
    """A Python that the project supports, and a release of Debian."""
    assert BUILD.base == FINAL.base
    [version] = re.findall(r"^python:(3\.\d+)-slim-[a-z]+$", FINAL.base)
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_its_labels_are_those_of_the_project() -> None:
    """With the version that is built."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in FINAL.one("LABEL").pairs.items()
    }
    assert labels.pop("description")
    assert labels == {"title": PROJECT["name"], "version": PROJECT["version"], "licenses": PROJECT["license"]}


def test_it_has_no_secret_and_does_not_start_without_one() -> None:
    """Its options are an address and a port."""
    secrets = {f"CHANNELSTREAM_{option.name.upper()}" for option in OPTIONS if option.declared.secret}
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert [name for name in secrets if name in text] == []
    settings = load_settings([], FINAL.environ).settings
    assert (settings.host, settings.port) == ("0.0.0.0", int(FINAL.one("EXPOSE").value))
    assert FINAL.one("CMD").words == ["channelstream"]
    ended = nursery().run([], FINAL.environ)
    assert (ended.returncode, "secret: its default" in ended.stderr) == (2, True)


def test_its_user_has_no_rights() -> None:
    """It is a number, as platforms that refuse root ask for, and the data are its own."""
    user, group = FINAL.one("USER").value.split(":")
    assert int(user) == int(group) >= 10_000
    assert f"--owner={user} --group={group} {DATA}" in FINAL.one("RUN").value


def test_its_probe_asks_whether_the_server_serves(server: RunningServer) -> None:
    """A server that does not answer, or answers 503, fails it."""
    paths = {route.path for route in health_routes(build(load_settings([], {}).settings).node)}
    assert FINAL.environ["PROBE"] in paths
    command = [sys.executable, *FINAL.probe[1:]]

    def code(port: int, path: str) -> int:
        environ = {**FINAL.environ, "CHANNELSTREAM_PORT": str(port), "PROBE": path}
        return subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=False).returncode

    for path in (FINAL.environ["PROBE"], "/readyz"):
        eventually(lambda path=path: code(server.port, path) == 0, f"{path} is not answered")
    assert code(server.port, "/nowhere") == 1
    with HeldPort() as held:
        assert code(held.number, FINAL.environ["PROBE"]) == 1


# -- its steps


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The final stage, made by the steps of the recipe."""
    if reason := why_not():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("image")
    build, final = (Image(root / name, stage) for name, stage in (("build", BUILD), ("final", FINAL)))
    build.build(ROOT, {})
    final.build(ROOT, {BUILD.name: build})
    return final


@pytest.mark.slow
def test_the_steps_install_all_files_of_the_packages(image: Image) -> None:
    """With their byte code, since nothing can be written later."""
    [site] = image.root.glob("opt/channelstream/lib/python*/site-packages")
    for folder in ("src", "clients/python/src"):
        files = {Path(name).relative_to(folder) for name in written(folder)}
        assert {str(path) for path in files if not (site / path).is_file()} == set()
    assert any((site / "channelstream/__pycache__").glob("server.*.pyc"))


@pytest.mark.slow
def test_its_program_runs_read_only_without_rights_and_stops(image: Image, tmp_path: Path) -> None:
    """As process 1, on the port that the recipe names; only its data are written, and they are its own."""
    [site] = image.root.glob("opt/channelstream/lib/python*/site-packages")
    (site / "requirements.pth").write_text(f"{SITE}\n")
    user = int(FINAL.one("USER").value.partition(":")[0])
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, *2 * ((image.root / DATA.lstrip("/")).stat().st_uid,))
    environ = {f"CHANNELSTREAM_{name}": "a" * 32 for name in ("SECRET", "ADMIN_SECRET", "COOKIE_SECRET")}
    environ["CHANNELSTREAM_ENGINE"] = f"sqlite:///{DATA}/state.db"
    with image.running({DATA: data}, environ) as container:
        wait_until_it_runs(container)
        assert container.run(["touch", "/opt/channelstream/new"]) != 0
        os.kill(container.pid, getattr(signal, FINAL.one("STOPSIGNAL").value))
        rest, _ = container.process.communicate(timeout=PATIENCE_S)
    assert (container.process.returncode, "Traceback" in rest) == (0, False), rest
    assert {path.stat().st_uid for path in data.iterdir()} == {user}
    assert (data / "state.db").stat().st_size > 0


def wait_until_it_runs(container: Container) -> None:
    """Wait for the line that names the port, and ask the recipe's own probe."""
    assert container.process.stdout is not None
    lines = []
    for line in container.process.stdout:
        lines.append(line)
        if found := RUNNING.search(line):
            assert found[1] == FINAL.one("EXPOSE").value
            eventually(lambda: container.run(FINAL.probe) == 0, "the container is not healthy")
            return
    raise AssertionError("".join(lines))
