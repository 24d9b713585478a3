"""The tokens that the functions of docs/tokens.md sign, each in its language."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import RunningServer, launch
from tests.token_client import SECRET, TokenClient

PAGE = Path(__file__).parents[2] / "docs/tokens.md"
PROGRAMS = {
    "python": ([sys.executable, "-c"], "{code}\nSECRET = {secret!r}\nprint(token_of('ann'))"),
    "js": (["node", "--input-type=module", "-e"], "{code}\nconsole.log(tokenOf('ann', {secret!r}));"),
    "php": (["php", "-r"], "{code}\necho token_of('ann', {secret!r});"),
}
"""How the function of each language is called, by the language of its code block."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = launch("-s", SECRET, "--token-max-age-s", "600")
    running.secret = SECRET
    yield running
    running.stop()


def token_of(language: str) -> str:
    """Have the function of a language sign a token for the user ann."""
    command, program = PROGRAMS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed.")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    [code] = (
        block.removeprefix("<?php") for block in blocks if re.search("(def|function) token_?of", block, re.I)
    )
    text = program.format(code=code, secret=SECRET)
    return subprocess.run([*command, text], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_token_of_the_guide_opens_a_stream(server: RunningServer, language: str) -> None:
    """It opens a stream and grants what it says; after a revocation the next one does so as well."""
    first = TokenClient(server.ws_url, token_of(language))
    assert first.command("subscribe", channels=["room.1"])["channels"] == ["room.1"]
    assert not first.command("publish", channel="room.1", message="hello")["duplicate"]
    assert first.command("publish", channel="news", message="hello")["code"] == "forbidden"
    assert server.post("/revoke", {"user": "ann"}) == {"ended": 1}
    assert first.end() == (4003, "token revoked")
    TokenClient(server.ws_url, token_of(language)).close()
