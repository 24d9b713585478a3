"""The Python client imports nothing of the server, and what decides in it does no I/O."""

import ast
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
