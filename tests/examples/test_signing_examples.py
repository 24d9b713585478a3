"""The signatures of the examples in other languages."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "spec/vectors/signing.json"
NODE = """
import { sign } from "./examples/node/sign.js";
import { readFileSync } from "node:fs";
console.log(JSON.stringify(JSON.parse(readFileSync("spec/vectors/signing.json", "utf8")).map(sign)));
"""
PHP = """
require 'examples/php/channelstream.php';
foreach (json_decode(file_get_contents('spec/vectors/signing.json'), true) as $each) {
    $signed[] = channelstream_sign(
        $each['secret'], $each['method'], $each['target'], $each['body'], $each['key'], $each['ts'], $each['nonce']);
}
echo json_encode($signed);
"""
COMMANDS = {"node": ["--input-type=module", "-e", NODE], "php": ["-r", PHP]}


def run(program: str, *arguments: str, **environ: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed.")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, env=os.environ | environ, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("program", COMMANDS)
def test_examples_sign_as_the_vectors_say(program: str) -> None:
    """The same as those of the server."""
    expected = [vector["authorization"] for vector in json.loads(VECTORS.read_text("utf-8"))]
    assert json.loads(run(program, *COMMANDS[program])) == expected


def test_the_example_in_php_publishes(start_server: Any) -> None:
    """To a server that takes signed requests only; a wrong secret is reported."""
    server = start_server("--request-signing", "signed")
    environ = {"CHANNELSTREAM_URL": server.url, "CHANNELSTREAM_SECRET": server.secret}
    answer = json.loads(run("php", "examples/php/publish.php", "news", "hi", **environ))
    assert answer["message"] == {"text": "hi"}
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run("php", "examples/php/publish.php", **environ | {"CHANNELSTREAM_SECRET": "wrong"})
    assert "Bad Signature" in failure.value.stderr + failure.value.stdout
