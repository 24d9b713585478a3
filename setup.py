"""Compiles the modules of the hot paths if CHANNELSTREAM_COMPILED=1 asks for it (docs/deployment.md, "Compiled build").

Without that variable the distributions are Python alone, as pyproject.toml describes them. With it mypyc makes an extension
of each module in `COMPILED`, which Python imports instead of the file beside it. Both do the same: the tests pass with
either (`make test-compiled`). All other modules stay Python, each for one of these reasons:

- It runs rarely, or waits for something else: pages, configuration, upgrades, Redis, the disk.
- mypyc 2.4 does not compile it, or compiles it to something else: `Struct` classes of msgspec, whose arguments it drops;
  errors, whose class attributes it hides; asynchronous generators; `__aenter__ = acquire` (`service.locks`); an attribute
  with the name of a C macro (`http.listener`); `Raw`, which is no bytes although msgspec's types say so (`http.parts`); a
  subclass of `partial`, whose calls end the process (`http.takeover`); an `await` in an `except` or a `finally`: meanwhile
  each other compiled coroutine that awaits in a `finally` raises the error, too.
- The event loop calls it: connections, streams, timers, the flush. A compiled function has no frame, so the report of a
  slow turn names the Python functions around it (`watchdog`). For the same reason the router stays Python.
- It is newer than the list, and nobody has measured yet what it would gain: `auth.scheme` with the forms of credentials,
  `auth.reporting`, `core.usage`, `core.token_bucket`, `core.token_buckets`, `core.frequent`, `core.membership_facts`,
  `service.rates`, `service.key_rates`, `service.client_rates`, `http.callers`, `http.lent_socket`.

A class of a compiled module whose attributes are deleted, as by `del connection.write`, names these in `__deletable__`.
"""

import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import setup

COMPILED = {
    "core": (
        "acceptance addresses batch budget changes client_protocol compaction connection connections_of deadlines entry "
        "format headers http_body http_head http_head_form http_reader hub idle ids leave_batch linked_order log policy "
        "presence_events query registry registry_logs rounds seat signing stream_client timestamps"
    ),
    "wire": "client_commands client_session deflate frame_head frame_reader frames framing handshake protocols",
    "apps": "app keys principal",
    "auth": "base foreign open signature",
    "engines": "announcements local_log local_reads staged",
    "service": "connecting executing limits local node publishing service services signals",
    "http": "answers exchange inbound line outbound phase request shared waiting",
    "transports": "admission at_once attachment catch_up first_catch_up opening settings streams",
}
"""The compiled modules, by package."""
ASKED = "CHANNELSTREAM_COMPILED"
ONLY = "CHANNELSTREAM_COMPILED_ONLY"
"""Packages to compile, for a test: all of them take a minute of CPU and more."""
COMPILER = "mypy>=2.4,<2.5"
"""Another version may refuse other code, or compile it to something else."""


def modules(packages: list[str]) -> list[str]:
    """Return the files of the compiled modules of some packages."""
    return [
        f"src/channelstream/{package}/{name}.py" for package in packages for name in COMPILED[package].split()
    ]


def lacks() -> list[str]:
    """Say what this machine lacks to compile."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    missing = []
    if shutil.which(compiler) is None:
        missing.append(
            f"a C compiler, and {compiler} is not on the PATH (on Debian: apt-get install gcc libc6-dev)"
        )
    if not header.exists():
        missing.append(
            f"the headers of Python, and there is no {header} (on Debian: apt-get install python3-dev)"
        )
    return missing


def requirements() -> list[str]:
    """Return what a build requires: the compiler, and the packages whose types it reads."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [COMPILER, *(each for each in project["dependencies"] if not each.startswith("channelstream"))]


def extensions() -> list[Any]:
    """Return the extensions of the compiled modules.

    Raises:
        SystemExit: they cannot be made here, or must not.
    """
    if {"editable_wheel", "develop"} & set(sys.argv):
        sys.exit(
            f"{ASKED} is set, but an editable installation stays Python: extensions beside its files would hide changes."
        )
    if missing := lacks():
        sys.exit(f"A compiled build needs {'; and '.join(missing)}. Without {ASKED} nothing is compiled.")
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []  # A front end asks for the requirements before it installs them.
    packages = os.environ.get(ONLY, "").split() or list(COMPILED)
    # One library, in which modules call each other without Python; without what a debugger needs it has a third of the size.
    options = {"opt_level": "2", "debug_level": "0", "multi_file": True, "group_name": "channelstream"}
    return list(mypycify(["--config-file=pyproject.toml", *modules(packages)], **options))


if __name__ == "__main__":
    is_asked = os.environ.get(ASKED) == "1"
    # Not in build/lib, where setuptools leaves the files of the versions that were built here before, and installs them with
    # this one: of what is looked for in folders, such as the scripts of Redis, both would be found.
    with TemporaryDirectory() as built:
        setup(
            ext_modules=extensions() if is_asked else [],
            setup_requires=requirements() if is_asked else [],
            options={"build": {"build_lib": built}},
        )
