"""`channelstream make-config`: an INI file with random secrets."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from tempfile import mkstemp
from typing import Any

from channelstream.config.flags import OneLineParser
from channelstream.config.loading import read_layers
from channelstream.config.sources import USUAL_FILE, Given, Layer, from_environ
from channelstream.config.template import random_secret, random_secrets, render_ini, texts_of_json
from channelstream.config.values import text_of
from channelstream.errors import ConfigError
from channelstream.regular_file import mode_of

DESCRIPTION = """\
Write an INI file that explains every option and contains random secrets. Options from the environment
(CHANNELSTREAM_*) or from -j are set in the file; all others are comments with their defaults."""
OWNER_ONLY = 0o600
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Write a new file.

    Raises:
        ConfigError: the file exists or cannot be written, or an override is wrong.
    """
    parser = OneLineParser("channelstream make-config", DESCRIPTION)
    _add_arguments(parser)
    parser.add_argument("--force", action="store_true", default=False, help="Replace an existing file.")
    arguments = parser.parse_strictly(argv)
    return _make(arguments, environ, replace=arguments.force)


def run_old(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `channelstream_utils make_config`, the name of 0.7. It replaces an existing file."""
    parser = OneLineParser("channelstream_utils", DESCRIPTION)
    parser.add_argument("operation", choices=["make_config"], help="The only operation.")
    _add_arguments(parser)
    return _make(parser.parse_strictly(argv), environ, replace=True)


def _add_arguments(parser: OneLineParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=USUAL_FILE,
        help=f"File to write; - means stdout [{USUAL_FILE}]",
    )
    parser.add_argument(
        "-j", "--json", metavar="JSON", default="{}", help="An object of option names and values."
    )


def _make(arguments: Namespace, environ: Mapping[str, str], replace: bool) -> int:
    text = render_ini(*_values(arguments.json, environ))
    if arguments.output == "-":
        sys.stdout.write(text)
        return 0
    _write(arguments.output, text, replace)
    print(f"{arguments.output} written; serve with: channelstream -i {arguments.output}")
    return 0


def _values(document: str, environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return option texts for the file, and those of further applications.

    JSON overrides the environment, which overrides random secrets.
    """
    overrides = {name: Given(text, "--json") for name, text in texts_of_json(document).items()}
    reading = read_layers([from_environ(environ), Layer(overrides)])
    if reading.problems:
        raise ConfigError(reading.problems[0])
    apps = {app_id: {"secret": random_secret()} | _shown(values) for app_id, values in reading.apps.items()}
    return random_secrets() | _shown(reading.values), apps


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(value) for name, value in values.items()}


def _write(name: str, text: str, replace: bool) -> None:
    """Write a file that only its owner may read, whole or not at all. It never exists with wider permissions.

    What a link names is replaced, not the link; and no device, such as /dev/stdout, whatever root is allowed to do.
    """
    if (mode := mode_of(name)) and not S_ISREG(mode):
        raise ConfigError(f"{name!r} is no regular file; -o - writes to stdout")
    path = Path(os.path.realpath(name) if replace else name)
    try:
        descriptor, made = _beside(path) if replace else (os.open(path, NEW_FILE, OWNER_ONLY), path)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            made.replace(path)
        except OSError:
            made.unlink()
            raise
    except FileExistsError as error:
        raise ConfigError(f"{name!r} exists; --force replaces it") from error
    except OSError as error:
        raise ConfigError(f"{name!r} cannot be written: {error.strerror}") from error


def _beside(path: Path) -> tuple[int, Path]:
    """Open a new file in the same folder, with a name that no other has, and that only its owner may read."""
    descriptor, made = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    return descriptor, Path(made)
