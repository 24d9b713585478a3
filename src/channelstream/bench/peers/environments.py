"""Virtual environments for servers in Python, with packages that this project does not need itself."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_INSTALL_TIMEOUT_S = 600


def cache() -> Path:
    """Return the folder of all that is installed for the comparison. It is kept for later runs."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "channelstream-bench"


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment in the cache, which is made when it is first needed.

    Attributes:
        name: name of its folder.
        packages: what pip installs.
    """

    name: str
    packages: Sequence[str]

    @property
    def python(self) -> Path:
        return self._folder / "bin" / "python"

    @property
    def _folder(self) -> Path:
        return cache() / self.name

    def missing(self) -> str:
        """Make the environment if it is missing. Return why that is not possible, or an empty text."""
        stamp = self._folder / "packages.txt"
        wanted = "\n".join(self.packages)
        if stamp.exists() and stamp.read_text() == wanted:
            return ""
        install = (str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        for command in (
            (sys.executable, "-m", "venv", "--clear", str(self._folder)),
            (*install, *self.packages),
        ):
            if not _succeeds(command):
                return f"`{' '.join(command)}` failed: is PyPI within reach?"
        stamp.write_text(wanted)
        return ""


def _succeeds(command: Sequence[str]) -> bool:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError):
        return False
    return True
