"""The Python client stands alone."""

import ast
from pathlib import Path

import pytest

import channelstream_client

ROOT = Path(channelstream_client.__file__).parent


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_client_imports_nothing_of_the_server(path: Path) -> None:
    """The client is installed where no server is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert "channelstream" not in {name.partition(".")[0] for name in names}
