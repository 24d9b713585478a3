"""Keys of applications, and how a request's key is found."""

from itertools import pairwise

import pytest

from channelstream.apps.api_key import MIN_SECRET_BYTES, ApiKey, KeyState, fingerprint
from channelstream.apps.app import App
from channelstream.apps.client import Client
from channelstream.apps.grants import EVERYTHING, Grants
from channelstream.apps.key_ring import KeyRing
from channelstream.apps.principal import ALL_RIGHTS, Principal, Right
from channelstream.errors import BadSignature

NOW_S = 1_700_000_000.0
STRONG = "s" * MIN_SECRET_BYTES
SHOP = App("shop")


def test_a_request_with_a_key_acts_for_its_application_with_its_rights() -> None:
    """And is known by the id of the key."""
    key = ApiKey("web-1", STRONG, SHOP, frozenset({Right.PUBLISH}))
    assert key.principal() == Principal(SHOP, frozenset({Right.PUBLISH}), "web-1")


def test_the_option_secret_is_the_key_with_the_empty_id_and_all_rights() -> None:
    """Its length is not judged: programs of the older generations have any."""
    key = ApiKey("", "x", App())
    assert (key.rights, key.state(NOW_S)) == (ALL_RIGHTS, KeyState.VALID)


def test_a_secret_is_in_no_text_about_its_key() -> None:
    """Not in a log, and not in a failure of a test."""
    assert STRONG not in f"{ApiKey('web', STRONG, SHOP)!r} {ApiKey('web', STRONG, SHOP)}"


@pytest.mark.parametrize("key_id", ["a.b", "a b", "a,b", "ä", "a\n", "x" * 65, "a=b"])
def test_an_id_fits_into_a_header(key_id: str) -> None:
    """It ends at a comma or a dot."""
    with pytest.raises(ValueError, match="id of a key"):
        ApiKey(key_id, STRONG, SHOP)


def test_a_key_is_accepted_at_some_time() -> None:
    """One that never is would be a mistake that nobody sees."""
    ApiKey("web", STRONG, SHOP, not_before_s=NOW_S, not_after_s=NOW_S)
    with pytest.raises(ValueError, match="not_before is later than not_after"):
        ApiKey("web", STRONG, SHOP, not_before_s=NOW_S, not_after_s=NOW_S - 1)


@pytest.mark.parametrize(
    ("key", "state"),
    [
        (ApiKey("k", STRONG, SHOP), KeyState.VALID),
        (ApiKey("k", STRONG[1:], SHOP), KeyState.WEAK),
        (ApiKey("k", STRONG, SHOP, not_before_s=NOW_S), KeyState.VALID),
        (ApiKey("k", STRONG, SHOP, not_before_s=NOW_S + 1), KeyState.EARLY),
        (ApiKey("k", STRONG, SHOP, not_after_s=NOW_S), KeyState.VALID),
        (ApiKey("k", STRONG, SHOP, not_after_s=NOW_S - 1), KeyState.EXPIRED),
    ],
)
def test_a_key_that_is_weak_early_or_expired_is_refused(key: ApiKey, state: KeyState) -> None:
    """With the answer to an unknown one."""
    assert key.state(NOW_S) is state
    ring = KeyRing([key])
    if state is KeyState.VALID:
        assert ring.find("k", NOW_S) is key
    else:
        with pytest.raises(BadSignature):
            ring.find("k", NOW_S)


def test_several_keys_of_an_application_are_valid_at_once() -> None:
    """So the callers can change to a new one before the old one goes."""
    old, new = ApiKey("2025", STRONG, SHOP), ApiKey("2026", STRONG, SHOP)
    ring = KeyRing([old, new])
    assert [ring.find(key.id, NOW_S) for key in (old, new)] == [old, new]
    ring.replace([new])
    assert list(ring) == [new]
    with pytest.raises(BadSignature):
        ring.find(old.id, NOW_S)


def test_the_empty_id_is_that_of_each_application() -> None:
    """Of the default one, if a request names none."""
    default, shop = ApiKey("", "one", App()), ApiKey("", "two", SHOP)
    ring = KeyRing([default, shop])
    assert ring.find("", NOW_S) is ring.find("", NOW_S, App()) is default
    assert ring.find("", NOW_S, SHOP) is shop
    for key_id, app in (("", App("blog")), ("gone", None)):
        with pytest.raises(BadSignature):
            ring.find(key_id, NOW_S, app)


def test_a_key_is_none_of_another_application() -> None:
    """A path that names one application takes no other's key."""
    key = ApiKey("web", STRONG, SHOP)
    ring = KeyRing([key])
    assert ring.find("web", NOW_S) is ring.find("web", NOW_S, SHOP) is key
    with pytest.raises(BadSignature):
        ring.find("web", NOW_S, App())


@pytest.mark.parametrize(
    ("key_id", "app", "is_accepted"),
    [("web", SHOP, True), ("gone", SHOP, False), ("web", App(), False), ("", SHOP, True), (None, SHOP, True)],
)
def test_a_token_counts_as_long_as_the_key_that_has_signed_it(
    key_id: str | None, app: App, is_accepted: bool
) -> None:
    """One of an issuer has no such key."""
    ring = KeyRing([ApiKey("web", STRONG, SHOP), ApiKey("", "x", SHOP)])
    assert ring.accepts(Client(app, "ann", NOW_S, key_id=key_id), NOW_S) is is_accepted


def test_a_token_counts_as_long_as_the_secret_that_has_signed_it() -> None:
    """A key may get another one, as the option `secret` does; older servers did not say which it was."""
    ring = KeyRing([ApiKey("web", STRONG, SHOP), ApiKey("", "new", SHOP, older=("old",))])
    signed = [("web", STRONG), ("web", "x"), ("", "new"), ("", "old"), ("", "x")]
    clients = [
        Client(SHOP, "ann", NOW_S, key_id=key_id, signed_with=fingerprint(each)) for key_id, each in signed
    ]
    assert [ring.accepts(client, NOW_S) for client in clients] == [True, False, True, True, False]
    assert ring.accepts(Client(SHOP, "ann", NOW_S, key_id="web"), NOW_S)


@pytest.mark.parametrize(
    ("rights", "grants", "state", "is_accepted"),
    [
        ([Right.CONNECT], Grants(subscribe=EVERYTHING), {}, True),
        ([Right.PUBLISH], Grants(), {}, False),
        ([Right.CONNECT], Grants(publish=EVERYTHING), {}, False),
        ([Right.CONNECT, Right.PUBLISH], Grants(publish=EVERYTHING), {}, True),
        ([Right.CONNECT, Right.PUBLISH], Grants(history=EVERYTHING), {}, False),
        ([Right.CONNECT, Right.PUBLISH], Grants(presence=EVERYTHING), {}, False),
        ([Right.CONNECT, Right.INFO], Grants(history=EVERYTHING, presence=EVERYTHING), {}, True),
        ([Right.CONNECT], Grants(), {"color": "red"}, False),
        ([Right.CONNECT, Right.STATE], Grants(), {"color": "red"}, True),
    ],
)
def test_a_token_counts_as_long_as_its_key_may_grant_what_it_says(
    rights: list[Right], grants: Grants, state: dict[str, str], is_accepted: bool
) -> None:
    """A right may be taken from a key while streams are open."""
    ring = KeyRing([ApiKey("web", STRONG, SHOP, frozenset(rights))])
    assert ring.accepts(Client(SHOP, "ann", NOW_S, grants, state=state, key_id="web"), NOW_S) is is_accepted


def test_an_application_may_have_older_secrets() -> None:
    """The newest one comes first; none is in a text about the key."""
    key = ApiKey("", "new-one", SHOP, older=("old-one",))
    ring = KeyRing([key])
    assert (ring.own_secrets("shop"), ring.own_secrets("blog")) == (("new-one", "old-one"), ())
    assert "-one" not in repr(key)


@pytest.mark.parametrize("key", [ApiKey("web", STRONG, App()), ApiKey("", STRONG, SHOP)])
def test_no_two_keys_have_one_id(key: ApiKey) -> None:
    """A ring that is given such keys stays as it is."""
    kept = [ApiKey("web", STRONG, SHOP), ApiKey("", "x", SHOP)]
    ring = KeyRing(kept)
    with pytest.raises(ValueError, match="two keys have the id"):
        ring.replace([*kept, key])
    assert sorted(ring, key=lambda key: key.id) == sorted(kept, key=lambda key: key.id)


def test_it_is_known_when_a_key_expires() -> None:
    """From one look to the next: at its last second it is accepted."""
    ring = KeyRing(
        [ApiKey("", "x", SHOP), ApiKey("web", STRONG, SHOP), ApiKey("old", STRONG, SHOP, not_after_s=NOW_S)]
    )
    looks_s = [NOW_S - 1, NOW_S, NOW_S + 1, NOW_S + 2]
    assert [ring.expires_between(*each) for each in pairwise(looks_s)] == [False, True, False]
