"""The Python client imports nothing of the server, and what decides in it does no I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import channelstream_client

ROOT = Path(channelstream_client.__file__).parent
PURE = ("protocol", "resuming", "reconnect", "retry_after", "errors")
"""The modules that decide what a stream does next."""
IMPURE = {"asyncio", "httpx", "logging", "random", "socket", "ssl", "threading", "time", "websockets"}


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_client_imports_nothing_of_the_server(path: Path) -> None:
    """The client is installed where no server is."""
    assert "channelstream" not in {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("name", PURE)
def test_what_decides_is_pure(name: str) -> None:
    """No clock, no randomness, no I/O: these modules import only one another and harmless parts of the library."""
    for imported in imports(ROOT / f"{name}.py"):
        top, _, inner = imported.partition(".")
        assert top not in IMPURE
        assert top != "channelstream_client" or inner in PURE


def test_pure_parts_load_no_http_library() -> None:
    """A load generator or a test that reads the bytes itself pays for neither httpx nor websockets."""
    script = (
        "import sys, channelstream_client.resuming;"
        " print(sorted({'asyncio', 'httpx', 'websockets', 'ssl'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    """Also those that are imported at their first use, and no others."""
    for name in channelstream_client.__all__:
        assert name in dir(channelstream_client)
        assert getattr(channelstream_client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = channelstream_client.Nothing
