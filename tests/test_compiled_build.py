"""The compiled build: what its list may hold, what it says where it cannot be made, and that its wheel serves."""

import ast
import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest
from tests.conftest import ADMIN_SECRET, PATIENT, RUNNING, SECRET, RunningServer

from channelstream.config import Settings
from channelstream.upgrade.control import ask_to_upgrade

ROOT = Path(__file__).parents[1]
ASKED = {"CHANNELSTREAM_COMPILED": "1"}
WAITS = ast.Await | ast.AsyncFor | ast.AsyncWith
SMALL = ("apps", "auth")
"""Packages that a test compiles, in a tenth of the time that all take."""


def setup() -> ModuleType:
    """Return setup.py as a module, which builds nothing then."""
    spec = importlib.util.spec_from_file_location("compiled_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = setup().modules(list(setup().COMPILED))


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@cache
def deletable() -> set[str]:
    """Return the attributes that the classes of all compiled modules let others delete."""
    nodes = (node for file in FILES for node in ast.walk(tree(file)) if isinstance(node, ast.Assign))
    named = (node.value for node in nodes if ast.unparse(node.targets[0]) == "__deletable__")
    return {name for value in named for name in ast.literal_eval(value)}


@pytest.mark.parametrize("file", FILES)
def test_nothing_in_the_list_becomes_something_else(file: str) -> None:
    """mypyc drops the arguments of a class, hides class attributes of errors, and has no asynchronous generators."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Delete):
            attributes = {each.attr for each in node.targets if isinstance(each, ast.Attribute)}
            assert attributes <= deletable(), "name it in __deletable__ of its class"
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert node.keywords == [] and "Struct" not in bases, (
                f"{node.name} has to be in a module that stays Python"
            )
            if any(base.endswith(("Error", "Exception")) for base in bases):
                assert not [each for each in node.body if isinstance(each, ast.Assign | ast.AnnAssign)], (
                    node.name
                )
        if isinstance(node, ast.AsyncFunctionDef):
            assert not [each for each in ast.walk(node) if isinstance(each, ast.Yield)], node.name
        if isinstance(node, ast.Try):
            handled = [*(each for handler in node.handlers for each in handler.body), *node.finalbody]
            assert not [each for part in handled for each in ast.walk(part) if isinstance(each, WAITS)], (
                f"line {node.lineno}: wait after the handler"
            )


def run_setup(*arguments: str, folder: Path = ROOT, **environ: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ASKED | environ,
    )
    return ended.returncode, ended.stderr


def test_the_build_says_that_there_is_no_compiler() -> None:
    """And how to build without one."""
    code, said = run_setup("--name", CC="no-such-compiler -O9")
    assert code == 1
    assert said.startswith(
        "A compiled build needs a C compiler, and no-such-compiler is not on the PATH (on Debian: apt-get install gcc "
        "libc6-dev)"
    )
    assert said.endswith(". Without CHANNELSTREAM_COMPILED nothing is compiled.\n")


def test_an_installation_of_the_checkout_stays_python() -> None:
    """Extensions beside the files would be imported instead of them, whatever is edited."""
    code, said = run_setup("develop")
    assert code == 1 and "an editable installation stays Python" in said


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is built of, where the compiler may write."""
    if lacks := setup().lacks():
        pytest.skip(f"nothing can be compiled here: {'; '.join(lacks)}")
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE", "docs/pypi.md"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    return source


@pytest.mark.slow
def test_all_modules_of_the_list_become_c(source: Path) -> None:
    """The compiler of C, which takes ten times as long, is not asked."""
    code, said = run_setup("--name", folder=source)
    assert code == 0, said
    assert len(list(source.glob("build/__native_channelstream___*.c"))) == len(FILES)
    shutil.rmtree(source / "build")


@pytest.fixture(scope="module")
def wheels(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with the contents of the wheels that are built without and with compiled modules."""
    folder = tmp_path_factory.mktemp("wheels")
    only = {"CHANNELSTREAM_COMPILED_ONLY": " ".join(SMALL)}
    return contents(source, folder / "python"), contents(source, folder / "compiled", **ASKED, **only)


def contents(source: Path, target: Path, **environ: str) -> Path:
    """Build the wheel, and return the folder of what is in it."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        target,
        source,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [wheel] = target.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(target / "site")
    shutil.rmtree(source / "build")
    return target


def extensions(wheel: Path) -> set[str]:
    files = (path.relative_to(wheel / "site").as_posix() for path in wheel.rglob("*.so"))
    return {file.removesuffix(EXTENSION_SUFFIXES[0]) for file in files}


@pytest.mark.slow
def test_only_a_compiled_wheel_has_extensions(wheels: tuple[Path, Path]) -> None:
    """The usual one is for every Python and machine; a compiled one says for which, and has the same files of Python."""
    python, compiled = wheels
    assert extensions(python) == set()
    modules = {
        f"channelstream/{package}/{name}" for package in SMALL for name in setup().COMPILED[package].split()
    }
    assert extensions(compiled) == {*modules, "channelstream__mypyc"}
    assert [path.name for path in python.glob("*-py3-none-any.whl")]
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert [path.name for path in compiled.glob(f"*-{tag}-{tag}-linux_*.whl")]
    held = [
        {path.relative_to(wheel).as_posix() for path in wheel.glob("site/channelstream/**/*.py")}
        for wheel in wheels
    ]
    assert held[0] == held[1] and "site/channelstream/apps/app.py" in held[0]


@contextmanager
def running(site: Path) -> Iterator[RunningServer]:
    """Start a server whose program is in a folder, which may get another one meanwhile."""
    patient = {f"CHANNELSTREAM_{name}_S": str(time_s) for name, time_s in PATIENT.items()}
    environ = (
        os.environ
        | patient
        | {
            "PYTHONPATH": str(site),
            "CHANNELSTREAM_SECRET": SECRET,
            "CHANNELSTREAM_ADMIN_SECRET": ADMIN_SECRET,
        }
    )
    command = [sys.executable, "-m", "channelstream", "-p", "0"]
    with subprocess.Popen(
        command, cwd=site.parent, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not (found := RUNNING.search("".join(lines))):
                lines.append(process.stdout.readline())
                assert lines[-1], f"the server has ended: {lines}"
            port = found[1]
            yield RunningServer(process, int(port), lines)  # type: ignore[arg-type]
        finally:
            process.kill()


def has_compiled(pid: int) -> bool:
    """Whether a process has loaded what is compiled."""
    return "channelstream__mypyc" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_server_is_upgraded_to_a_compiled_one_and_back(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    """What one kind of process hands over, the other continues: its log, its users, and those who are connected."""
    python, compiled = wheels
    site = tmp_path / "site"
    site.symlink_to(python / "site")
    with running(site) as server:
        assert not has_compiled(server.process.pid)
        assert "(compiled)" not in "".join(server.lines)
        conn_id = server.connect("ann", "news", channel_configs={"news": {"store_history": True}})
        for count, (wheel, is_compiled) in enumerate([(compiled, True), (python, False)], 1):
            server.post("/message", [{"user": "app", "channel": "news", "message": {"number": count}}])
            site.unlink()
            site.symlink_to(wheel / "site")
            report = asyncio.run(ask_to_upgrade(Settings(port=server.port)))
            try:
                assert has_compiled(report.pid) == is_compiled
                starting = next(line for line in server.process.stdout if "in place of a running" in line)
                assert ("(compiled)" in starting) == is_compiled
                news = server.post("/info", {"info": {"channels": ["news"]}})["channels"]["news"]
                assert [each["message"]["number"] for each in news["history"]] == list(range(1, count + 1))
                assert server.post("/subscribe", {"conn_id": conn_id, "channels": [f"more-{count}"]})[
                    "channels"
                ]
            except BaseException:
                os.kill(report.pid, signal.SIGKILL)
                raise
        os.kill(report.pid, signal.SIGKILL)
