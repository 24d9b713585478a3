"""Signatures: both epochs of their time, the signed text, and one answer for all faults."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from channelstream.core.signing import EPOCH_2011_S, MAX_TOKEN, SignatureChecker, SignedText
from channelstream.errors import BadSignature

NOW_S = 1_700_000_000


class StoppedSigner(TimestampSigner):
    """The signer of an application whose clock shows a given second."""

    def __init__(self, secret: str, now_s: int) -> None:
        super().__init__(secret)
        self.now_s = now_s

    def get_timestamp(self) -> int:
        return self.now_s


def sign(text: str, at_s: int = NOW_S, secret: str = "secret") -> str:
    return StoppedSigner(secret, at_s).sign(text).decode()


def is_accepted(
    token: str, text: SignedText = SignedText.COMPAT, max_age_s: float | None = 60.0, now_s: float = NOW_S
) -> bool:
    try:
        SignatureChecker("secret", text, max_age_s, 60.0).check(token, "/message", now_s)
    except BadSignature as fault:
        assert (fault.code, fault.body["request"]) == ("bad_signature", "Bad Signature")
        return False
    return True


@pytest.mark.parametrize(
    ("text", "signed", "accepted"),
    [
        (SignedText.COMPAT, "/message", True),
        (SignedText.COMPAT, "channelstream", True),
        (SignedText.COMPAT, "", True),
        (SignedText.COMPAT, "/connect", False),
        (SignedText.PATH, "/message", True),
        (SignedText.PATH, "channelstream", False),
        (SignedText.PATH, "/connect", False),
        (SignedText.ANY, "/connect", True),
        (SignedText.ANY, "channelstream", True),
    ],
)
def test_a_signature_is_valid_for_its_signed_text_only(text: SignedText, signed: str, accepted: bool) -> None:
    """Another endpoint's path is refused, unless every text is accepted."""
    assert is_accepted(sign(signed), text) is accepted


@pytest.mark.parametrize("counted_from_s", [0, EPOCH_2011_S])
@pytest.mark.parametrize(
    ("age_s", "accepted"),
    [(0, True), (60, True), (61, True), (62, False), (-60, True), (-61, False), (10**6, False)],
)
def test_a_stamp_is_valid_for_a_minute_each_way(counted_from_s: int, age_s: int, accepted: bool) -> None:
    """Whether it counts from 1970 or, as itsdangerous before 1.0, from 2011; it is rounded down to a second."""
    assert is_accepted(sign("/message", NOW_S - age_s - counted_from_s)) is accepted


def test_any_age_is_accepted_where_none_is_asked_for() -> None:
    """The signature itself still counts."""
    assert is_accepted(sign("/message", 5), max_age_s=None)
    assert not is_accepted(sign("/message", 5, secret="other"), max_age_s=None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "secret",
        sign("/message", secret="other"),
        sign("/message")[:-1],
        "x" + sign("/message"),
        sign("/message", 2**40),
        sign("/message") + "\ud800",
        StoppedSigner("secret", NOW_S).sign(b"\xff").decode("latin-1"),
        sign("x" * MAX_TOKEN),
    ],
)
def test_every_wrong_signature_has_the_same_answer(token: str) -> None:
    """Empty, unsigned, another secret, cut, prefixed, an impossible time, no text, too long."""
    assert not is_accepted(token)


def test_a_checked_signature_is_checked_again_for_another_path_and_time() -> None:
    """What the checker remembers of a token holds for one path only, and the age of the token grows."""
    checker, token = SignatureChecker("secret", SignedText.COMPAT, 60.0, 60.0), sign("/message")
    for _ in range(2):
        checker.check(token, "/message", NOW_S)
        for path, now_s in (("/connect", NOW_S), ("/message", NOW_S + 62)):
            with pytest.raises(BadSignature):
                checker.check(token, path, now_s)


def test_a_checked_signature_has_an_end() -> None:
    """Up to it the signature is accepted, and not after it; none has one where any age is accepted."""
    checker, token = SignatureChecker("secret", SignedText.COMPAT, 60.0, 60.0), sign("/message")
    until_s = checker.check(token, "/message", NOW_S - 30)
    assert checker.check(token, "/message", until_s) == until_s
    with pytest.raises(BadSignature):
        checker.check(token, "/message", until_s + 0.001)
    assert (
        SignatureChecker("secret", SignedText.COMPAT, None, 60.0).check(token, "/message", NOW_S) == math.inf
    )


@given(st.text(max_size=100))
def test_an_unsigned_text_is_always_refused(token: str) -> None:
    """Only the secret makes a signature."""
    assert not is_accepted(token)
