"""All sources merged into settings."""

from pathlib import Path

import pytest
from tests.closed_folder import closed_folder
from tests.config.reading import load_settings

from channelstream.config import Settings
from channelstream.config.flags import Flags
from channelstream.config.loading import read
from channelstream.errors import ConfigError

SEED_SAMPLE = """\
[channelstream]
debug = 0
port = 8000
demo_app_url = http://127.0.0.1
secret = YOURSECRET
admin_secret = YOURADMINSECRET
allow_posting_from = 127.0.0.1,
                     x.x.x.x,
                     y.y.y.y,


"""
"""The example of the first generation's README, as printed there."""
MADE_BY_0_7 = """\
[channelstream]
admin_user = admin
# admin panel password
admin_secret = YOURADMINSECRET
# auth cookie secret, leave empty for random string generated at server start
# fill in if you need to have multiple servers and want to keep admin session between them
cookie_secret =\x20
# API password
secret = YOURSECRET
port = 8000
allow_posting_from = 127.0.0.1,
                     10.0.0.1
                    \x20
log_level = INFO
# should require SSL connections?
enforce_https = False
# enforce https:// in links
http_scheme =\x20

# how to validate server side requests? (default: itsdangerous TimeSigner)
signature_checker = channelstream.utils.DefaultSigner
"""
"""What `channelstream_utils make_config` of 0.7.1 writes, with secrets and addresses of the environment."""


def write(path: Path, text: str) -> str:
    file = path / "file.ini"
    file.write_text(text)
    return str(file)


def test_nothing_given_means_defaults() -> None:
    """Without any source the settings are the defaults."""
    loaded = load_settings([], {})
    assert loaded.settings == Settings()
    assert loaded.warnings == ()


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    path = write(
        tmp_path, "[channelstream]\nport = 1\nhost = 127.0.0.1\nlog_events = 1\ndrain_timeout_s = 1\n"
    )
    environ = {"CHANNELSTREAM_PORT": "2", "CHANNELSTREAM_LOG_EVENTS": "2"}
    settings = load_settings(["-i", path, "--port", "3"], environ).settings
    assert (settings.port, settings.log_events, settings.drain_timeout_s) == (3, 2, 1.0)
    assert settings.log_age_s == Settings().log_age_s


def test_value_that_is_beaten_is_not_judged(tmp_path: Path) -> None:
    """A wrong value in a source that another one overrides is ignored."""
    path = write(tmp_path, "[channelstream]\nport = x\n")
    assert load_settings([path, "-p", "3"], {}).settings.port == 3


def test_file_named_by_the_environment(tmp_path: Path) -> None:
    """CHANNELSTREAM_INI names the file where the command line does not."""
    path = write(tmp_path, "[channelstream]\nport = 1\n")
    assert load_settings([], {"CHANNELSTREAM_INI": path}).settings.port == 1
    assert load_settings([path], {"CHANNELSTREAM_INI": "/nowhere.ini"}).settings.port == 1


@pytest.mark.parametrize("indent", ["", "    "])
def test_sample_of_the_first_generation(tmp_path: Path, indent: str) -> None:
    """The first generation's sample file works as printed, also indented; placeholders give warnings."""
    sample = "".join(indent + line for line in SEED_SAMPLE.splitlines(keepends=True))
    loaded = load_settings(["-", write(tmp_path, sample)], {})
    assert loaded.settings == Settings(
        secret="YOURSECRET", admin_secret="YOURADMINSECRET", allow_posting_from=("127.0.0.1",)
    )
    assert [warning.split("'")[-2] for warning in loaded.warnings] == ["x.x.x.x", "y.y.y.y"]


def test_a_file_that_0_7_has_made(tmp_path: Path) -> None:
    """It works as it is: the check of signatures that it names is the server's own."""
    loaded = load_settings(["-i", write(tmp_path, MADE_BY_0_7)], {})
    assert (loaded.settings, loaded.warnings) == (
        Settings(
            secret="YOURSECRET",
            admin_secret="YOURADMINSECRET",
            allow_posting_from=("127.0.0.1", "10.0.0.1"),
        ),
        (),
    )


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--port", "abc", "a whole number from 0 to 65535"),
        ("--poll-timeout-s", "0", "a number from 0.01 to 86400 seconds"),
        ("--debug", "maybe", "one of true, false, 1, 0, yes, no, on, off"),
        ("--log-format", "xml", "one of human, json"),
        ("--engine", "redis", "memory"),
        ("--allow-posting-from", "localhost", "a list of addresses or networks such as"),
        ("--signature-checker", "x", "a dotted name such as package.module.Class"),
        ("--demo-app-url", "ftp://x", "an http:// or https:// address"),
        ("--allow-cors", "example.com", "a list of origins such as https://example.com"),
    ],
)
def test_a_wrong_value_is_named_with_its_option_and_source(flag: str, value: str, allowed: str) -> None:
    """A wrong value is a ConfigError that names option, value, source and what is allowed."""
    name = flag[2:].replace("-", "_")
    with pytest.raises(ConfigError) as caught:
        load_settings([f"{flag}={value}"], {})
    assert str(caught.value).startswith(f"{name}: {value!r} (from {flag}) is not {allowed}")


@pytest.mark.parametrize(
    ("flag", "entry", "wrong"),
    [
        ("--allow-cors", "https://{}.example", "http://127.1"),
        ("--trusted-proxies", "10.0.0.{}", "10.0.0.256"),
    ],
)
def test_of_a_long_list_the_wrong_entry_is_named(flag: str, entry: str, wrong: str) -> None:
    """Its beginning would say nothing."""
    entries = [*(entry.format(number) for number in range(100)), wrong, "x"]
    with pytest.raises(ConfigError) as caught:
        load_settings([flag, ", ".join(entries)], {})
    assert f": {wrong!r} (from {flag}) is not a list of " in str(caught.value)


def test_wrong_secret_is_not_repeated() -> None:
    """The value of a secret is never repeated."""
    with pytest.raises(ConfigError) as caught:
        load_settings([], {"CHANNELSTREAM_SECRET": "hunter2\n"})
    assert str(caught.value).startswith("secret: its value (from CHANNELSTREAM_SECRET) is not one line")


def test_a_password_in_a_wrong_address_is_not_repeated() -> None:
    """Of an address only the login is left out."""
    with pytest.raises(ConfigError) as caught:
        load_settings([], {"CHANNELSTREAM_ENGINE": "reds://:pass@word@10.0.0.5:6379/0"})
    assert str(caught.value).startswith(
        "engine: 'reds://***@10.0.0.5:6379/0' (from CHANNELSTREAM_ENGINE) is not"
    )


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("port", "'8000'"),
        ("allow_cors", "'https://a.example\\nhttps://b.example'"),
        ("admin_secret", "its value"),
    ],
)
def test_a_line_that_is_indented_by_mistake_is_named_and_not_repeated(
    tmp_path: Path, option: str, shown: str
) -> None:
    """It continues the value before it; the lines of a list, which are indented too, are shown."""
    value = {"port": "8000", "allow_cors": "https://a.example\n  https://b.example", "admin_secret": "x"}[
        option
    ]
    path = tmp_path / "c.ini"
    path.write_text(f"[channelstream]\n{option} = {value}\n  secret = hunter2\nhost = ::1\n")
    with pytest.raises(ConfigError) as refused:
        load_settings([str(path)], {})
    assert str(refused.value).startswith(f"{option}: {shown} (from ")
    assert str(refused.value).endswith("; the line of secret is indented, and so is a part of this value")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["sercet", "admin-secret", "channelstream.secret"])
def test_a_line_of_an_unknown_option_that_is_indented_is_not_repeated(tmp_path: Path, name: str) -> None:
    """What its name is mistaken for may be a secret."""
    path = tmp_path / "c.ini"
    path.write_text(f"[channelstream]\nport = 8000\n  {name} = hunter2\n")
    with pytest.raises(ConfigError) as refused:
        load_settings([str(path)], {})
    assert str(refused.value).startswith("port: '8000' (from ")
    assert str(refused.value).endswith("; a line with = is indented, and so is a part of this value")


def test_long_value_is_cut() -> None:
    """A long or many-lined wrong value still makes one short line."""
    with pytest.raises(ConfigError) as caught:
        load_settings(["-p", "9\n" * 5000], {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_problems_are_found() -> None:
    """Reading continues after a problem, so that all are reported at once."""
    reading = read(Flags(None, {}), {"CHANNELSTREAM_PORT": "x", "CHANNELSTREAM_DEBUG": "maybe"})
    assert [problem.split(":")[0] for problem in reading.problems] == ["port", "debug"]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("token_max_age_s = 600", ["token_max_age_s"]),
        (f"token_max_age_s = 600\nsecret = {'s' * 31}", ["token_max_age_s"]),
        (f"token_max_age_s = 600\nsecret = {'s' * 32}", []),
        ("secret = short", []),
        ("token_max_age_s = 600\nkeys_file = keys.json", []),
        ("token_max_age_s = 600\ntoken_issuers = mobile ES256 /keys.pem", []),
        (
            f"secret = {'s' * 32}\n[app:shop]\nsecret = short\ntoken_max_age_s = 600",
            ["[app:shop]: token_max_age_s"],
        ),
    ],
)
def test_a_secret_too_short_to_sign_tokens_gives_a_warning(
    tmp_path: Path, text: str, warned: list[str]
) -> None:
    """Nothing else tells it: a client is only answered that its token is not accepted."""
    loaded = load_settings([write(tmp_path, f"[channelstream]\n{text}\n")], {})
    assert [warning.rpartition(": ")[0] for warning in loaded.warnings] == warned


def test_a_folder_that_this_user_may_not_enter_has_no_file(tmp_path: Path) -> None:
    """For example the home of root, from where an operator runs a command as the server's user."""
    with closed_folder(tmp_path):
        assert load_settings([], {}).warnings == ()
