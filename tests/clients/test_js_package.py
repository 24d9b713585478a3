"""The JavaScript client as npm would publish it: its content, its imports, and the errors of its types."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "js"
TOOLS = CLIENT / "node_modules" / ".bin"
TYPED = CLIENT / "test" / "types" / "program.ts"
TIMEOUT_S = 60
USES = (
    "console.log(typeof client.Channelstream, client.backoff(0, { random: () => 1 }), typeof client.Roster);"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed and return its output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program's folder, into whose node_modules the client is installed."""
    if shutil.which("npm") is None or not (TOOLS / "tsc").exists():
        pytest.skip(
            "No TypeScript for the JavaScript client: with node and npm, scripts/js-packages.sh brings it."
        )
    folder = tmp_path_factory.mktemp("application")
    source = shutil.copytree(CLIENT, folder / "source", ignore=shutil.ignore_patterns("node_modules"))
    (packed,) = json.loads(run("npm", "pack", "--json", "--offline", "--silent", cwd=source))
    with tarfile.open(source / packed["filename"]) as archive:
        # As an attribute: CPython before 3.11.4 knows neither the filter nor the argument for it.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    (folder / "node_modules").mkdir()
    (folder / "package").rename(folder / "node_modules" / "channelstream")
    return folder


@pytest.mark.slow
def test_it_holds_what_it_needs(application: Path) -> None:
    """Nothing of the tests is in it, and publint finds nothing wrong."""
    package = application / "node_modules" / "channelstream"
    ending = {"js", "d.ts", "cjs", "d.cts"}
    files = {"LICENSE", "README.md", "package.json", *(f"channelstream.{end}" for end in ending)}
    assert {file.name for file in package.iterdir()} == files
    links = re.findall(r"\]\(([^)\s]+)\)", (package / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link] == []
    run(TOOLS / "publint", "--strict", package, cwd=application)


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [f'const client = require("channelstream"); {USES}', f'import * as client from "channelstream"; {USES}'],
    ids=["commonjs", "module"],
)
def test_it_can_be_imported(application: Path, program: str) -> None:
    """By programs of both kinds, with all that it exports."""
    kind = "commonjs" if "require" in program else "module"
    assert run("node", f"--input-type={kind}", "-e", program, cwd=application) == "function 500 function\n"


@pytest.mark.slow
def test_its_types_refuse_missing_members(application: Path) -> None:
    """A program in TypeScript passes its strict mode, as a module or not, except for the invalid lines."""
    programs = [shutil.copy(TYPED, application / f"program.{ending}") for ending in ("mts", "cts")]
    options = ["--strict", "--exactOptionalPropertyTypes", "--noEmit", "--skipDefaultLibCheck"]
    options += ["--module", "node16", "--target", "es2022"]
    run(TOOLS / "tsc", *options, "--lib", "es2022,dom,dom.iterable", *programs, cwd=application)
