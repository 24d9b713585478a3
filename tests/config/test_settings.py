"""The table of options."""

from dataclasses import FrozenInstanceError

import pytest

from channelstream.config.option import Option
from channelstream.config.settings import BY_NAME, OPTIONS, Settings
from channelstream.config.values import Number, Whole, text_of
from channelstream.engines.factory import ENGINES


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_is_allowed(option: Option) -> None:
    """Every default is a value its option accepts, and survives being shown."""
    assert option.declared.kind.parse(option.default_text) == option.default


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_bounds_are_enforced(option: Option) -> None:
    """Every numeric option has bounds, which it documents and enforces."""
    kind = option.declared.kind
    if not isinstance(kind, Whole | Number):
        assert not isinstance(option.default, int | float) or isinstance(option.default, bool)
        return
    for bound, beyond in ((kind.minimum, kind.minimum - 1), (kind.maximum, kind.maximum + 1)):
        assert kind.parse(text_of(bound)) == bound
        assert text_of(bound) in option.allowed
        with pytest.raises(ValueError):
            kind.parse(text_of(beyond))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_sentence_and_its_unit(option: Option) -> None:
    """Every option has a sentence, and the unit its name promises."""
    declared = option.declared
    assert declared.sentence[0].isupper()
    assert declared.sentence.endswith(".")
    assert not option.name.endswith("_s") or declared.unit == "seconds"
    assert not option.name.endswith("_bytes") or declared.unit == "bytes"


def test_settings_are_made_by_hand() -> None:
    """Settings take keyword overrides and are frozen."""
    settings = Settings(port=0, demo=True)
    assert (settings.port, settings.host, settings.demo) == (0, "127.0.0.1", True)
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


def test_repr_hides_secrets() -> None:
    """The text of settings holds no secret."""
    text = repr(Settings(secret="hunter2", admin_secret="hunter3", cookie_secret="hunter4"))
    assert "hunter" not in text


def test_the_demo_is_on_by_itself_on_loopback_only() -> None:
    """A unix socket counts as loopback, and the demo is on by itself only there, without a proxy."""
    assert Settings().serves_demo
    assert Settings(host="0.0.0.0", unix_socket="/run/c.sock").loopback
    assert not Settings(host="0.0.0.0").serves_demo
    assert Settings(host="0.0.0.0", demo=True).serves_demo
    assert not Settings(demo=False).serves_demo
    assert not Settings(trusted_proxies=("127.0.0.1",)).serves_demo
    assert Settings(trusted_proxies=("127.0.0.1",), demo=True).serves_demo


def test_a_name_of_the_second_generation_is_the_same_option() -> None:
    """The second generation's gc_channels_after names the same option."""
    assert BY_NAME["gc_channels_after"] is BY_NAME["gc_channels_after_s"]


def test_the_help_names_every_engine() -> None:
    """As docs/engines.md asks of a new one."""
    sentence = BY_NAME["engine"].declared.sentence
    assert [kind.form for kind in ENGINES if f"{kind.form.partition(':')[0]} in " not in sentence] == []
