"""How the scripts are joined of their files."""

import re
from importlib.resources import files

import pytest
from tests.redis_server import RedisServer

from channelstream.engines.redis.scripts import scripts

LEFT = 30
"""Local variables that each script has room for, at least, beside those of today."""
FILES = {
    part.name.removesuffix(".lua"): part.read_text(encoding="utf-8")
    for part in files("channelstream.engines.redis").joinpath("lua").iterdir()
    if part.name.endswith(".lua")
}
PLAIN = {name: re.sub(r"--[^\n]*|'[^'\n]*'", "", text) for name, text in FILES.items()}
"""The files without comments and texts."""


def declared(text: str) -> set[str]:
    """The local variables that a file shares with those that use it."""
    found = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", text, re.MULTILINE)
    return {name for names in found for name in names.split(", ")}


def own(text: str) -> set[str]:
    """All names that a file declares: variables, arguments and counters of loops."""
    found = re.findall(
        r"local (?:function )?([\w, ]+)|function [\w.]*\(([\w, ]*)|for ([\w, ]+) in|for (\w+) =", text
    )
    return {name for names in found for each in names for name in each.replace(" ", "").split(",")}


def needed(name: str) -> set[str]:
    """The files with the variables that a file reads; no fields and no keys of tables."""
    words = set(re.findall(r"(?<![\w.:])[A-Za-z_]\w*(?!\w|\s*=[^=])", PLAIN[name])) - own(PLAIN[name])
    return {other for other, text in PLAIN.items() if other != name and declared(text) & words}


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_those_that_it_uses(name: str) -> None:
    """A variable of another file would be an error of Redis at the line that reads it; a file too many costs time."""
    [*lines] = re.findall(r"^-- Uses: (.*)$", FILES[name], re.MULTILINE)
    assert set(", ".join(lines).split(", ")) - {""} == needed(name)


def test_the_scripts_are_those_of_the_version_that_runs() -> None:
    """They are read once: another version may be installed when a link opens again."""
    assert scripts() is scripts()


def test_the_scripts_format_and_read_no_json() -> None:
    for text in scripts().values():
        assert "cjson" not in text
        assert '":' not in text


def test_a_script_has_only_what_its_operation_uses() -> None:
    """A publish knows no connections, and all scripts together have every operation."""
    assert "function unregister" not in scripts()["publish"]
    assert set(scripts()) == {
        name for text in FILES.values() for name in re.findall(r"function operations\.(\w+)", text)
    }


def test_there_is_room_for_more_variables(redis: RedisServer) -> None:
    """Redis loads each script with more of them; without room left, make a part of a file a block (`do ... end`)."""
    more = "local " + ", ".join(f"more_{number}" for number in range(LEFT))
    for text in set(scripts().values()):
        assert re.fullmatch(r"[0-9a-f]{40}", redis.cli("SCRIPT", "LOAD", f"{more}\n{text}"))
