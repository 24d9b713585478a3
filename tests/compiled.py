"""What differs if the tests run with a compiled build (`make test-compiled`)."""

from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from channelstream.core import hub

IS_COMPILED = hub.__file__.endswith(tuple(EXTENSION_SUFFIXES))
WARNING = r"ignore:the \(type, exc, tb\) signature of throw\(\) is deprecated:DeprecationWarning"
"""Of code that mypyc 2.4 writes, where CPython 3.12 or newer cancels a coroutine. Outside of tests nobody sees it."""
SOURCE = tuple(
    f"test_{name}.py" for name in ("layers", "words", "waits", "docs", "packages", "compiled_build", "image")
)
"""Tests of the files of a checkout, or of what is built of them."""


def left_out(item: pytest.Item) -> str | None:
    """Say why a test is skipped with a compiled build; None: it runs."""
    name = item.nodeid.removeprefix("tests/")
    if item.get_closest_marker("replaces_compiled") or name.startswith("simulation/"):
        return "replaces a part of a module that is compiled here"
    return "is about the files of a checkout" if name.startswith(SOURCE) else None
