"""How much programs may do with a key, with a clock that a test moves."""

import pytest

from channelstream.apps.api_key import ApiKey
from channelstream.apps.app import App, AppLimits
from channelstream.apps.pusher_app import PusherApp, PusherSecrets
from channelstream.errors import TooManyRequests
from channelstream.service.key_rates import KeyRates
from channelstream.service.rates import rate_text

NOW_S = 1000.0


def rates(app: App, *keys: ApiKey) -> KeyRates:
    found = KeyRates(app, lambda: NOW_S)
    found.replace(keys)
    return found


def key(app: App, name: str, **limits: float) -> ApiKey:
    return ApiKey(name, "s" * 40, app, **limits)  # type: ignore[arg-type]


def calls(found: KeyRates, name: str) -> int:
    """Return how many calls a key makes before one is refused; 100 if it has no limit."""
    for count in range(100):
        rate = found.by_key.get(name)
        if rate is None:
            return 100
        try:
            rate.check_call()
        except TooManyRequests:
            return count
    return 100


def test_there_is_nothing_to_look_at_without_limits() -> None:
    """So a call of a server without them costs nothing."""
    app = App(pusher=PusherApp("1", "kit", PusherSecrets("secret")))
    assert rates(app, key(app, ""), key(app, "web"), key(app, "cron", calls_per_s=0)).by_key == {}


def test_a_key_has_its_own_limit_or_that_of_its_application() -> None:
    """The option `secret` and the key of Pusher have that of the application."""
    app = App(limits=AppLimits(key_calls_per_s=3), pusher=PusherApp("1", "kit", PusherSecrets("secret")))
    found = rates(
        app, key(app, ""), key(app, "web"), key(app, "cron", calls_per_s=5), key(app, "all", calls_per_s=0)
    )
    assert [calls(found, name) for name in ("", "web", "cron", "all", "pusher:kit")] == [3, 3, 5, 100, 3]
    assert found.refused == {"key_calls": 4, "key_messages": 0}


def test_a_list_of_messages_is_counted_as_a_whole() -> None:
    """A longer one than comes in a second is accepted after a pause only."""
    app = App()
    rate = rates(app, key(app, "web", messages_per_s=10)).by_key["web"]
    rate.check_call()
    rate.check_messages(30)
    with pytest.raises(TooManyRequests) as refusal:
        rate.check_messages(5)
    assert (refusal.value.retry_after_s, str(refusal.value)) == (
        3,
        "This key may publish 10 messages in a second; send these later.",
    )


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(1, "1 call in"), (0.5, "0.5 calls in"), (2, "2 calls in"), (1_000_000, "1000000 calls in")],
)
def test_a_refusal_names_the_rate_in_words(per_s: float, text: str) -> None:
    """One of something is no plural, and no number has an exponent."""
    assert rate_text(per_s, "call") == f"{text} a second"
    app = App()
    rate = rates(app, key(app, "web", calls_per_s=per_s, messages_per_s=per_s)).by_key["web"]
    rate.check_messages(1_000_000)
    with pytest.raises(TooManyRequests, match=text.replace("call", "message")):
        rate.check_messages(1)


def test_a_key_whose_limits_are_the_same_goes_on_to_count() -> None:
    """One with others begins again, and one that is gone is forgotten."""
    app = App()
    found = rates(app, *(key(app, name, calls_per_s=2) for name in ("same", "other", "gone")))
    assert [calls(found, name) for name in ("same", "other")] == [2, 2]
    found.replace([key(app, "same", calls_per_s=2), key(app, "other", calls_per_s=3)])
    assert [calls(found, name) for name in ("same", "other")] == [0, 3]
    assert set(found.by_key) == {"same", "other"}
