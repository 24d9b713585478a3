"""Runs the steps of an image and its program as an engine for images does, in namespaces of this machine.

The base image is played by this machine's system and interpreter, bound read-only. No step has a network: requirements are
those of this environment, and pip builds what is copied with the setuptools of it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.recipe import Ignored, Instruction, Stage

TOOLS = ("unshare", "nsenter", "setpriv", "chroot", "mount", "ip")
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
SYSTEM = ("usr", "lib", "lib64", "bin", "sbin", "etc")
DEVICES = ("null", "zero", "urandom")
ENVIRONMENT = Path(sys.prefix)
INTERPRETER = Path(sys.base_prefix)
SITE = next(ENVIRONMENT.glob("lib/python*/site-packages"))
BASE_PATH = f"/base/bin:{INTERPRETER}/bin:/usr/bin:/bin"
OFFLINE = {
    **dict.fromkeys(("PIP_NO_DEPS", "PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"), "1"),
    "PIP_NO_BUILD_ISOLATION": "0",  # What pip understands as no isolation.
    "PIP_ROOT_USER_ACTION": "ignore",
    "PYTHONPATH": str(SITE),
}


def why_not() -> str | None:
    """Say why no container can run here; None: one can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not on the PATH: {', '.join(missing)} (apt-get install util-linux iproute2)"
    probe = subprocess.run(
        [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return f"this system allows no namespaces: {probe.stderr.decode()}" if probe.returncode else None


@dataclass(frozen=True)
class Container:
    """A running program.

    Attributes:
        process: `unshare`, which ends as the program does.
    """

    process: subprocess.Popen[str]
    stage: Stage
    environ: Mapping[str, str]

    @property
    def pid(self) -> int:
        """The program, which is process 1 in there."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def run(self, command: Sequence[str]) -> int:
        """Run a command beside the program, as its user, and return the exit code."""
        inside = ("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--root", "--wd")
        return subprocess.run([*inside, *_as_user(self.stage, self.environ, command)], check=False).returncode


class Image:
    """The files of a stage: what its steps have added to the base."""

    def __init__(self, root: Path, stage: Stage) -> None:
        self.root = root
        self._stage = stage
        for name in (*SYSTEM, "proc", "dev", "tmp", *map(_inside, (INTERPRETER, ENVIRONMENT)), "base/bin"):
            system = Path("/", name)
            if name in SYSTEM and system.is_symlink():
                (root / name).symlink_to(system.readlink())
            elif name not in SYSTEM or system.exists():
                (root / name).mkdir(parents=True, exist_ok=True)
        for name in DEVICES:
            (root / "dev" / name).touch()
        (root / "base/bin/pip").symlink_to(ENVIRONMENT / "bin/pip")
        if not (INTERPRETER / "bin/python").exists():
            (root / "base/bin/python").symlink_to(sys._base_executable)  # type: ignore[attr-defined]

    def build(self, context: Path, earlier: Mapping[str, "Image"]) -> None:
        """Carry out COPY and RUN.

        Args:
            context: the folder with the Dockerfile.
            earlier: the stages that COPY may name.
        """
        ignored = Ignored((context / ".dockerignore").read_text())
        sent = ignored.context(context)
        for each in self._stage.instructions:
            if each.word == "COPY":
                source = each.flags.get("from")
                self._copy(each, earlier[source].root if source else context, None if source else sent)
            elif each.word == "RUN":
                self._run(each)

    def _copy(self, copy: Instruction, root: Path, sent: set[str] | None) -> None:
        *sources, target = copy.words
        for source in sources:
            found, where = root / source.lstrip("/"), self.root / target.lstrip("/")
            if found.is_dir():
                copy_function = shutil.copy2 if sent is not None else os.link
                left_out = _all_but(root, sent)
                shutil.copytree(found, where, True, left_out, copy_function, dirs_exist_ok=True)
                continue
            assert sent is None or source in sent, f"{source} does not reach the build"
            where = where / found.name if target.endswith("/") else where
            where.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, where)

    def _run(self, run: Instruction) -> None:
        environ = {"PATH": BASE_PATH, **self._stage.environ, **OFFLINE}
        if "PATH" in self._stage.environ:
            environ["PATH"] += f":{BASE_PATH}"
        command = ["chroot", str(self.root), *_with_environ(environ, ["sh", "-ec", run.value])]
        script = "\n".join([*self._mounts(), f"exec {shlex.join(command)}"])
        ended = subprocess.run(
            [*NAMESPACES, "sh", "-ec", script], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{run.value}: {ended.stdout}{ended.stderr}"

    @contextmanager
    def running(self, volumes: Mapping[str, Path], environ: Mapping[str, str]) -> Iterator[Container]:
        """Start the program as `docker run --read-only --tmpfs /tmp --cap-drop ALL` does; kill it at the end.

        Args:
            volumes: the only folders that can be written to, besides /tmp.
        """
        environ = {**self._stage.environ, **environ}
        mounts = [
            *self._mounts(),
            f"mount -o remount,bind,ro {self.root}",
            f"mount -t tmpfs tmpfs {self.root}/tmp",
        ]
        # It hides what lies below it, as the environment of a checkout in /tmp does.
        for path in (INTERPRETER, ENVIRONMENT):
            if path.is_relative_to("/tmp"):
                mounts += [f"mkdir -p {self.root}{path}", *self._bound(path)]
        mounts += [f"mount --bind {folder} {self.root}{where}" for where, folder in volumes.items()]
        program = ["chroot", str(self.root), *_as_user(self._stage, environ, self._stage.one("CMD").words)]
        script = "\n".join([*mounts, "ip link set lo up", f"exec {shlex.join(program)}"])
        process = subprocess.Popen(
            [*NAMESPACES, "sh", "-ec", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with process:
            try:
                yield Container(process, self._stage, environ)
            finally:
                process.kill()

    def _mounts(self) -> Iterator[str]:
        yield "mount --make-rprivate /"
        yield f"mount --bind {self.root} {self.root}"
        read_only = [Path("/", name) for name in SYSTEM] + [INTERPRETER, ENVIRONMENT]
        for path in read_only:
            if path.is_dir() and not path.is_symlink():
                yield from self._bound(path)
        for name in DEVICES:
            yield f"mount --bind /dev/{name} {self.root}/dev/{name}"
        yield f"mount -t proc proc {self.root}/proc"

    def _bound(self, path: Path) -> Iterator[str]:
        """Show a folder of this machine, read-only."""
        yield f"mount --bind {path} {self.root}{path}"
        yield f"mount -o remount,bind,ro {self.root}{path}"


def _inside(path: Path) -> str:
    return path.as_posix().lstrip("/")


def _with_environ(environ: Mapping[str, str], command: Sequence[str]) -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), *command]


def _as_user(stage: Stage, environ: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """Return a command that becomes the user of an image, without any rights, and then runs another."""
    user, group = stage.one("USER").value.split(":")
    rights = ("--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
    return ["setpriv", f"--reuid={user}", f"--regid={group}", *rights, *_with_environ(environ, command)]


def _all_but(root: Path, sent: set[str] | None) -> Callable[[str, list[str]], set[str]]:
    """Return what names the files of a folder, for `copytree`, that do not reach a build; None stands for another stage."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        if sent is None:
            return set()
        where = Path(folder)
        return {
            name
            for name in names
            if not (where / name).is_dir() and (where / name).relative_to(root).as_posix() not in sent
        }

    return left_out
