"""The receivers of webhooks that the options describe."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from tests.config.reading import load_settings
from tests.webhook_receiver import KEY, SECRET

from channelstream.apps.wanted_facts import AppFacts
from channelstream.apps.webhooks import TYPES
from channelstream.config import Settings
from channelstream.config.applications import make_apps
from channelstream.config.safety import problems
from channelstream.config.values import text_of
from channelstream.config.webhook_values import EventTypes, Urls, WebhookSecrets, keys_of
from channelstream.config.webhooks import make_receivers, wanted_facts

URL = "https://a.example/hooks?x=1"
PUSHER = {"pusher_app_id": "1", "pusher_key": "k", "pusher_secret": "s"}


@pytest.mark.parametrize(
    "text",
    ["", URL, "http://127.0.0.1:9000/", "http://[::1]:80/x", f"{URL}, http://b.example\nhttp://c.example",
     " ".join(f"https://a.example/{number}" for number in range(10))],
)  # fmt: skip
def test_urls_are_on_one_line_or_several(text: str) -> None:
    """On one line or several; what is shown is read again."""
    kind = Urls()
    assert kind.parse(text_of(kind.parse(text))) == kind.parse(text)


@pytest.mark.parametrize(
    "text",
    ["a.example", "ftp://a.example", "https://", "https://user:word@a.example", "https://a.example/#x", "https:///x",
     "https://a.example:0", "https://a.example:99999", f"{URL} {URL}", "https://a.example/ä",
     f"https://a.example/{'x' * 2048}",
     " ".join(f"https://a.example/{number}" for number in range(11))],
)  # fmt: skip
def test_a_faulty_url_is_refused(text: str) -> None:
    """A password in it would be in logs; a fragment is never sent."""
    with pytest.raises(ValueError):
        Urls().parse(text)


def test_several_secrets_are_read_and_shown_alike() -> None:
    other = "whsec_" + b64encode(b"x" * 24).decode()
    kind = WebhookSecrets()
    assert kind.parse(f" {SECRET},{other}") == f"{SECRET} {other}"
    assert keys_of(kind.parse(f"{SECRET} {other}")) == (KEY, b"x" * 24)
    assert kind.parse(f"{SECRET} {other} {SECRET}").count("whsec_") == 3
    assert kind.parse("") == ""


@pytest.mark.parametrize(
    "text", ["secret", "whsec_", "whsec_%%%", "whsec_" + b64encode(b"x" * 23).decode(), " ".join([SECRET] * 4)]
)  # fmt: skip
def test_a_faulty_secret_is_refused(text: str) -> None:
    """Too short, or not in the form of Standard Webhooks."""
    with pytest.raises(ValueError):
        WebhookSecrets().parse(text)


def test_an_unknown_type_of_event_is_refused() -> None:
    kind = EventTypes()
    assert kind.parse("member.added channel.occupied, member.added") == ("member.added", "channel.occupied")
    assert kind.parse(text_of(tuple(TYPES.values()))) == tuple(TYPES.values())
    with pytest.raises(ValueError):
        kind.parse("member.adde")


def receivers(**options: Any) -> list[Any]:
    settings = Settings(**options)
    return make_receivers(settings, make_apps(settings))


def test_each_url_is_a_receiver() -> None:
    """With the format of its option."""
    one, other, pusher = receivers(
        webhook_urls=(URL, "https://b.example"),
        webhook_secret=SECRET,
        webhook_networks=("10.0.0.0/8",),
        pusher_webhook_urls=("https://c.example",),
        **PUSHER,
    )
    assert (one.url, one.secrets, one.pusher, one.batching) == (URL, (KEY,), None, True)
    assert (one.networks, one.app_id) == (("10.0.0.0/8",), "default")
    assert {"occupied", "online"} <= one.kinds
    assert not {"message", "opened", "closed"} & one.kinds
    assert other.url == "https://b.example"
    assert (pusher.url, pusher.secrets, pusher.pusher.key, pusher.batching) == (
        "https://c.example",
        (),
        "k",
        False,
    )
    assert "online" not in pusher.kinds
    assert len({one.name, other.name, pusher.name}) == 3


def test_what_the_engine_keeps_is_what_receivers_want() -> None:
    """Of each application, without its internal channels; of one without receivers nothing."""
    settings = Settings(
        webhook_urls=(URL,), webhook_secret=SECRET, webhook_events=("member.added",), **PUSHER
    )
    apps = make_apps(settings)
    wanted = wanted_facts(make_receivers(settings, apps), apps)
    assert wanted.apps == {"default": AppFacts(frozenset(("added",)), ("pusher/#",))}
    assert wanted.wants("removed", "a")
    assert not wanted.wants("added", "pusher/#server-to-user-1")
    assert not wanted_facts([], apps)


def test_a_further_application_has_receivers_of_its_own(tmp_path: Path) -> None:
    """It is sent nothing because another one is, and nobody else is sent what happens in it."""
    file = tmp_path / "a.ini"
    file.write_text(
        f"[channelstream]\nsecret = one\nwebhook_urls = {URL}\nwebhook_secret = {SECRET}\n"
        "[app:quiet]\nsecret = two\n"
        f"[app:shop]\nsecret = three\nwebhook_urls = https://shop.example\nwebhook_secret = {SECRET}\n"
    )
    settings = load_settings(["--ini", str(file)], {}).settings
    found = make_receivers(settings, make_apps(settings))
    assert [(each.app_id, each.url) for each in found] == [("default", URL), ("shop", "https://shop.example")]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"webhook_urls": (URL,)}, "webhook_secret: [channelstream] has none"),
        (
            {"pusher_webhook_urls": (URL,)},
            "pusher_webhook_urls: [channelstream] has them, and no pusher_secret",
        ),
    ],
)
def test_a_receiver_that_could_not_verify_is_refused(options: dict[str, Any], fault: str) -> None:
    found = [each for each in problems(Settings(**options)) if "webhook" in each]
    assert [each[: len(fault)] for each in found] == [fault]
    whole = Settings(**options, webhook_secret=SECRET, **PUSHER)
    assert not [each for each in problems(whole) if "webhook" in each]


def test_a_wrong_secret_is_not_shown() -> None:
    """The error names the option only."""
    with pytest.raises(Exception, match="webhook_secret") as refused:
        load_settings([], {"CHANNELSTREAM_WEBHOOK_SECRET": "whsec_a-secret-with-a-typo"})
    assert "typo" not in str(refused.value)
