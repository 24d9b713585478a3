"""The INI file of make-config."""

from pathlib import Path

import pytest
from tests.config.reading import load_settings

from channelstream.config import Settings
from channelstream.config.settings import OPTIONS
from channelstream.config.template import random_secrets, render_ini, texts_of_json
from channelstream.errors import ConfigError


def load_text(path: Path, text: str) -> Settings:
    file = path / "made.ini"
    file.write_text(text)
    loaded = load_settings([str(file)], {})
    assert loaded.warnings == ()
    return loaded.settings


def test_a_template_that_sets_nothing_has_the_defaults(tmp_path: Path) -> None:
    """A template that sets nothing is a file of defaults."""
    assert load_text(tmp_path, render_ini({})) == Settings()


def test_every_commented_default_is_true(tmp_path: Path) -> None:
    """Taking the comment from every option line gives the defaults again."""
    names = tuple(f"; {option.name} =" for option in OPTIONS)
    lines = [line[2:] if line.startswith(names) else line for line in render_ini({}).splitlines()]
    assert sum(" =" in line and not line.startswith(";") for line in lines) == len(OPTIONS)
    assert load_text(tmp_path, "\n".join(lines)) == Settings()


def test_given_options_are_set_in_the_file(tmp_path: Path) -> None:
    """Given options are set in the file, with any characters."""
    settings = load_text(
        tmp_path, render_ini({"secret": "a%b;c#d", "port": "1", "allow_posting_from": "::1, 10.0.0.0/8"})
    )
    assert settings == Settings(secret="a%b;c#d", port=1, allow_posting_from=("::1", "10.0.0.0/8"))


def test_each_secret_gets_a_long_value_of_its_own() -> None:
    """Every secret option but that of a second sign-in gets a long value of its own, which is never taken for a flag."""
    first, second = random_secrets(), random_secrets()
    assert set(first) == {"secret", "admin_secret", "cookie_secret"}
    assert len({*first.values(), *second.values()}) == 6
    assert min(map(len, first.values())) >= 43
    assert all(map(str.isalnum, first.values()))


def test_json_values_become_texts_of_options() -> None:
    """JSON values of every shape become option texts; null means not given."""
    document = (
        '{"port": 1, "debug": true, "gc_channels_after": 2.5, "allow_cors": ["https://a"], "host": null}'
    )
    assert texts_of_json(document) == {
        "port": "1", "debug": "True", "gc_channels_after_s": "2.5", "allow_cors": "https://a",
    }  # fmt: skip


@pytest.mark.parametrize(
    "document",
    ["{", "[]", '{"prot": 1}', '{"port": {}}', '{"allow_cors": [1]}', "[" * 100_000],
    ids=lambda text: text[:20],
)
def test_other_json_is_refused_in_one_line(document: str) -> None:
    """Other values than an object of known names and plain values are refused in one line."""
    with pytest.raises(ConfigError, match=r"^--json: [^\n]*$"):
        texts_of_json(document)
