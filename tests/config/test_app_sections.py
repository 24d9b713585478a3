"""Sections of the configuration that describe further applications."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.config.reading import load_settings

from channelstream import logs
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.config import Settings
from channelstream.config.app_names import MAX_APPS, of_variable
from channelstream.config.app_section import AppSection
from channelstream.config.applications import make_apps
from channelstream.config.safety import problems
from channelstream.config.template import render_ini
from channelstream.errors import ConfigError

SHOP = "[channelstream]\nsecret = a\nmax_messages = 7\n[app:shop]\nsecret = b\nallow_cors = https://Shop.example\n"


def load(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = path / "file.ini"
    file.write_text(text, "utf-8")
    loaded = load_settings([str(file)], environ or {})
    assert loaded.warnings == ()
    return loaded.settings


def test_a_section_makes_an_application(tmp_path: Path) -> None:
    """It has its own values, else those outside of any section, but never their secrets."""
    settings = load(tmp_path, SHOP)
    assert settings.apps == (AppSection("shop", {"secret": "b", "allow_cors": ("https://shop.example",)}),)
    shop = settings.of_app(settings.apps[0])
    assert (shop.secret, shop.max_messages, shop.allow_cors) == ("b", 7, ("https://shop.example",))
    assert (shop.admin_secret, shop.apps) == ("", ())
    assert settings.allow_cors == ()


def test_what_identifies_an_application_is_no_other_ones() -> None:
    """Also where it is no secret: an issuer, a key of Pusher, and a receiver of webhooks belong to one application."""
    texts = ("secret_file", "pusher_app_id", "pusher_key", "pusher_secret", "webhook_secret", "admin_secret")
    lists = ("token_issuers", "webhook_urls", "pusher_webhook_urls")
    own = dict.fromkeys(texts, "a") | dict.fromkeys(lists, ("a",))
    settings = Settings(**own, apps=(AppSection("shop", {}),))  # type: ignore[arg-type]
    shop = settings.of_app(settings.apps[0])
    assert {getattr(shop, name) for name in texts} == {""}
    assert {getattr(shop, name) for name in lists} == {()}


def test_the_environment_overrides_a_section(tmp_path: Path) -> None:
    """It may also make an application by itself."""
    environ = {"CHANNELSTREAM_APP_SHOP_SECRET": "c", "CHANNELSTREAM_APP_MY_BLOG_ADMIN_SECRET": "d"}
    settings = load(tmp_path, SHOP, environ)
    assert [(app.id, dict(app.values)) for app in settings.apps] == [
        ("my_blog", {"admin_secret": "d"}),
        ("shop", {"secret": "c", "allow_cors": ("https://shop.example",)}),
    ]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("app_shop_secret", ("shop", "secret")),
        ("app_shop_admin_secret", ("shop", "admin_secret")),
        ("app_a_b_demo", ("a_b", "demo")),
        ("app_default_secret", None),
        ("app_secret", None),
        ("app__secret", None),
        ("app_shop_port", None),
        ("app_name", None),
        ("secret", None),
    ],
)
def test_a_variable_names_application_and_option(name: str, found: tuple[str, str] | None) -> None:
    """By the longest option that it ends with; a variable that fits no option names none."""
    assert of_variable(name) == found


def test_a_variable_that_fits_nothing_is_reported(tmp_path: Path) -> None:
    """And ignored, as any other unknown one: it may be meant for another program."""
    file = tmp_path / "file.ini"
    file.write_text("[channelstream]\n")
    loaded = load_settings([str(file)], {"CHANNELSTREAM_APP_SHOP_PORT": "1"})
    assert loaded.settings.apps == ()
    assert loaded.warnings == ("CHANNELSTREAM_APP_SHOP_PORT: there is no option 'app_shop_port'; ignored",)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        (
            "[app:shop]\nsecrte = x\n",
            r"'.*': \[app:shop\]: there is no option 'secrte' \(did you mean secret\?\)",
        ),
        ("[app:shop]\nport = 1\n", r"\[app:shop\]: port is an option of the whole server"),
        ("[app:Shop]\n", r"\[app:Shop\]: the id of an application has 1 to 32 lower-case"),
        ("[app:]\n", r"\[app:\]: the id of an application has"),
        ("[app:default]\n", r"the default application has the options of \[channelstream\]"),
        (
            "[app:shop]\nmax_messages = 0\n",
            r"max_messages: '0' \(from '.*': \[app:shop\]\) is not a whole number",
        ),
    ],
)
def test_a_faulty_section_is_refused(tmp_path: Path, section: str, complaint: str) -> None:
    """In one line: what was meant to restrict an application would else be open."""
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(tmp_path, "[channelstream]\n" + section)
    assert "\n" not in str(caught.value)


def test_a_wrong_secret_is_not_repeated(tmp_path: Path) -> None:
    """The line names its place only."""
    with pytest.raises(ConfigError, match=r"^secret: its value \(from .*\[app:shop\]\) is not") as caught:
        load(tmp_path, "[channelstream]\n[app:shop]\nsecret = hunter2\n  hunter3\n")
    assert "hunter" not in str(caught.value)


def test_names_of_the_section_of_defaults_are_no_options_of_applications(tmp_path: Path) -> None:
    """ConfigParser adds the names of [DEFAULT] to every section."""
    settings = load(tmp_path, "[DEFAULT]\nport = 81\n[channelstream]\n[app:shop]\nsecret = x\n")
    assert (settings.port, settings.apps) == (81, (AppSection("shop", {"secret": "x"}),))


def test_the_number_of_applications_is_bounded(tmp_path: Path) -> None:
    """Each has routes, pages and counters."""
    sections = "".join(f"[app:a{number}]\nsecret = s{number}\n" for number in range(MAX_APPS))
    assert len(load(tmp_path, "[channelstream]\n" + sections).apps) == MAX_APPS
    with pytest.raises(ConfigError, match=f"there are {MAX_APPS + 1} sections"):
        load(tmp_path, "[channelstream]\n" + sections + "[app:more]\n")


@pytest.mark.parametrize(
    ("apps", "host", "complaint"),
    [
        ({"shop": {}}, "127.0.0.1", "secret: [app:shop] has none"),
        (
            {"shop": {"secret": "own"}},
            "127.0.0.1",
            "secret: [app:shop] and [channelstream] have the same one",
        ),
        (
            {"shop": {"secret": "s"}, "blog": {"secret": "s"}},
            "127.0.0.1",
            "secret: [app:blog] and [app:shop] have the same one",
        ),
        (
            {"shop": {"secret": "s", "admin_secret": "own admin"}},
            "127.0.0.1",
            "admin_secret: [app:shop] and [channelstream] have the same one",
        ),
        ({"shop": {"secret": "secret"}}, "10.0.0.1", "secret: [app:shop] has one that is public"),
    ],
)
def test_secrets_that_let_another_one_act_are_refused(
    apps: dict[str, dict[str, str]], host: str, complaint: str
) -> None:
    """An application has a secret, and shares none."""
    sections = tuple(AppSection(app_id, values) for app_id, values in sorted(apps.items(), reverse=True))
    settings = Settings(host=host, secret="own", admin_secret="own admin", apps=sections)
    [problem] = problems(settings)
    assert problem.startswith(complaint)


def test_secrets_of_applications_are_never_shown() -> None:
    """Neither in the settings as text, nor in the log."""
    settings = Settings(apps=(AppSection("shop", {"secret": "hunter2", "admin_secret": "hunter3"}),))
    assert "hunter" not in repr(settings)
    assert "hunter" not in logs.Redactor(settings.secrets)("a hunter2 and a hunter3")


def test_each_secret_of_webhooks_is_hidden() -> None:
    """While one takes the place of another, an option has both on a line; a text may have one of them."""
    shop = AppSection("shop", {"webhook_secret": "whsec_newer whsec_older"})
    redact = logs.Redactor(Settings(webhook_secret="whsec_first whsec_second", apps=(shop,)).secrets)
    for secret in ("whsec_first", "whsec_second", "whsec_newer", "whsec_older"):
        assert redact(f"a {secret}.") == f"a {logs.BLOT}."


def test_a_made_file_has_the_sections_that_it_is_given(tmp_path: Path) -> None:
    """And explains them to one who has none."""
    text = render_ini({"secret": "a"}, {"shop": {"secret": "b", "demo": "false"}})
    assert load(tmp_path, text).apps == (AppSection("shop", {"secret": "b", "demo": False}),)
    assert ";[app:shop]" in render_ini({})


PUSHER = "pusher_app_id = {n}\npusher_key = key-{n}\npusher_secret = s{n}\n"


def test_what_pushers_clients_know_is_never_another_applications(tmp_path: Path) -> None:
    """Id, key and secret are empty where a section does not set them; other options are as those outside of it."""
    file = (
        "[channelstream]\n" + PUSHER.format(n=1) + "pusher_activity_timeout_s = 30\n[app:shop]\nsecret = b\n"
    )
    settings = load(tmp_path, file)
    assert [app.pusher for app in make_apps(settings)] == [
        PusherApp("1", "key-1", PusherSecrets("s1"), activity_timeout_s=30),
        None,
    ]
    with_both = load(tmp_path, file + PUSHER.format(n=2) + "pusher_client_events = off\n")
    assert [app.pusher for app in make_apps(with_both)][1] == PusherApp(
        "2", "key-2", PusherSecrets("s2"), client_events=False, activity_timeout_s=30
    )
    assert {"s1", "s2"} <= set(with_both.secrets)
