"""The distributions as they are published: their files, their pages, and that they run alone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from channelstream.bench import servers
from channelstream.config.safety import OTEL_PACKAGES

ROOT = Path(__file__).parents[1]
NAMES = ("channelstream", "channelstream_client")
LEFT_OUT = shutil.ignore_patterns(
    ".*", "node_modules", "build", "dist", "*.egg-info", "__pycache__", "bench", "tests", "bench-results"
)
BUILD = (sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of both source distributions, and of the wheels that are built of those."""
    folder = tmp_path_factory.mktemp("packages")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
    shutil.copytree(
        ROOT / "src",
        source / "src",
        ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"),
        dirs_exist_ok=True,
    )
    for project in (source, source / "clients/python"):
        run(*BUILD, "--outdir", folder / "dist", project)
    return folder / "dist"


@pytest.mark.parametrize(
    ("project", "kept", "gone"),
    [
        (".", "channelstream/engines/redis/lua/70_run.lua", "channelstream/engines/redis/lua/61_older.lua"),
        ("clients/python", "channelstream_client/py.typed", "channelstream_client/older.py"),
    ],
    ids=NAMES,
)
def test_a_wheel_has_nothing_of_the_builds_before(tmp_path: Path, project: str, kept: str, gone: str) -> None:
    """A clone is built again for each upgrade, and setuptools leaves in `build` what has no source any more."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / project, source, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
    left = source / "build/lib" / gone
    left.parent.mkdir(parents=True)
    left.write_text("-- Uses: what is gone")
    run(*BUILD, "--wheel", "--outdir", tmp_path / "dist", source)
    with ZipFile(wheel(tmp_path / "dist", kept.partition("/")[0])) as archive:
        names = archive.namelist()
    assert kept in names
    assert gone not in names


def run(*command: str | Path, **environ: str) -> str:
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environ
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def wheel(built: Path, name: str) -> Path:
    [found] = built.glob(f"{name}-*.whl")
    return found


def in_sdist(built: Path, name: str) -> set[str]:
    [found] = built.glob(f"{name}-*.tar.gz")
    with tarfile.open(found) as archive:
        return {member.partition("/")[2] for member in archive.getnames()}


def metadata(built: Path, name: str) -> str:
    with ZipFile(wheel(built, name)) as archive:
        [path] = [path for path in archive.namelist() if path.endswith(".dist-info/METADATA")]
        return archive.read(path).decode()


def test_their_pages_can_be_shown(built: Path) -> None:
    """PyPI takes the metadata and renders the description."""
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir()))


@pytest.mark.parametrize("name", NAMES)
def test_their_pages_begin_with_the_installation(built: Path, name: str) -> None:
    """The first line of code says `pip install` with its name, and no link needs the repository around it."""
    head, _, page = metadata(built, name).partition("\n\n")
    first = re.search(r"^```\w*\n(.*)$", page, re.MULTILINE)
    assert first and re.search(rf"\bpip install {name.replace('_', '-')}$", first[1])
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", page) if "://" not in link] == []
    for field in ("Author", "Keywords", "License-Expression", "License-File", "Project-URL", "Classifier"):
        assert f"\n{field}: " in head


@pytest.mark.parametrize("name", NAMES)
def test_all_hold_the_licence(built: Path, name: str) -> None:
    """Every file comes with its terms."""
    assert "LICENSE" in in_sdist(built, name)
    with ZipFile(wheel(built, name)) as archive:
        assert any(path.endswith("/licenses/LICENSE") for path in archive.namelist())


def test_the_source_holds_the_documentation(built: Path) -> None:
    """Every page of docs/, the changelog and the examples are in the source distribution, and nothing that was built."""
    held = in_sdist(built, "channelstream")
    pages = {page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md")}
    assert {*pages, "CHANGELOG.md", "README.md", "examples/flask/app.py", "examples/page/page.js"} <= held
    assert not [path for path in held if "node_modules" in path or "__pycache__" in path]


def test_what_only_some_servers_need_is_an_extra(built: Path) -> None:
    """Sentences about missing packages name those of the extra. The wheel has every program of the bench."""
    required = re.findall(r"^Requires-Dist: ([\w-]+)(.*)$", metadata(built, "channelstream"), re.MULTILINE)
    assert {name for name, rest in required if 'extra == "bench"' in rest} == set(servers._REQUIRES["api"])
    assert {name for name, rest in required if 'extra == "otel"' in rest} == set(OTEL_PACKAGES.split())
    with ZipFile(wheel(built, "channelstream")) as archive:
        held = {path.removeprefix("channelstream/bench/") for path in archive.namelist()}
    assert {"worker.py", "engines/__main__.py", "peers/__main__.py", "peers/servers/emit.cjs"} <= held


def test_the_server_requires_the_client_that_is_built_with_it(built: Path) -> None:
    """The command line uses more of the client than its public names, so both are released together."""
    [version] = re.findall(r"^Version: (.*)$", metadata(built, "channelstream_client"), re.MULTILINE)
    assert f"\nRequires-Dist: channelstream-client=={version}\n" in metadata(built, "channelstream")


ALONE = {
    "channelstream": (
        "from importlib.resources import files; import channelstream.server; "
        "from channelstream.engines.redis.scripts import scripts; assert scripts(); "
        "package = files('channelstream'); parts = ('pages', 'admin', 'demo', 'explorer'); "
        "assert all(any((package / part / kind).iterdir()) for part in parts for kind in ('templates', 'static')); "
        "assert any((package / 'pages' / 'static' / 'client').iterdir()); "
        "print(channelstream.__file__)"
    ),
    "channelstream_client": "import channelstream_client; print(channelstream_client.__file__)",
}


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return an environment that has one of them, the requirements of others, and nothing of the checkout."""

    @cache
    def install(name: str) -> Path:
        environment = tmp_path_factory.mktemp(name) / "env"
        run(sys.executable, "-m", "venv", "--without-pip", environment)
        flags = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
        # As `pip --python` does it, from another pip, which would only start this one.
        pip = Path(sysconfig.get_path("purelib"), "pip")
        run(environment / "bin/python", pip, "install", *flags, wheel(built, name))
        # The path alone: the .pth files of a checkout that is installed for development are not read.
        (site_of(environment) / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return environment

    return install


def site_of(environment: Path) -> Path:
    [site] = environment.glob("lib/python*/site-packages")
    return site


@pytest.mark.parametrize("name", NAMES)
def test_they_run_alone(installed: Any, name: str) -> None:
    """Installed without the other one, they work. So a server starts without the Python client."""
    environment = installed(name)
    shown = run(environment / "bin/python", "-c", ALONE[name])
    assert shown.strip().startswith(str(environment))
    if name == "channelstream":
        assert run(environment / "bin/channelstream", "check-config") == "OK\n"


def test_the_command_line_finds_the_client(installed: Any) -> None:
    """Other commands than the server need it."""
    environment, client = map(installed, NAMES)
    path = str(site_of(client))
    assert "--transport" in run(environment / "bin/channelstream", "listen", "-h", PYTHONPATH=path)
