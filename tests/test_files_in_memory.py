"""Where the temporary folders of tests are."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from tests.files_in_memory import ENOUGH_BYTES, is_fit


@pytest.mark.parametrize(
    ("blocks", "flags", "expected"),
    [
        (ENOUGH_BYTES // 4096, 0, True),
        (ENOUGH_BYTES // 4096 - 1, 0, False),
        (ENOUGH_BYTES // 4096, os.ST_NOEXEC, False),
        (ENOUGH_BYTES // 4096, os.ST_NOSUID, True),
    ],
)
def test_a_small_folder_or_one_without_programs_is_not_taken(blocks: int, flags: int, expected: bool) -> None:
    """A container has 64 MB there unless it is started with more."""
    folder: Any = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_flag=flags)
    assert is_fit(folder) is expected
