"""The option `signature_checker`: a class of the application's own; `tests/api/test_access.py` runs one in a server."""

import pytest

from channelstream.auth.foreign import ForeignChecker
from channelstream.errors import BadSignature, ConfigError

NAME = f"{__name__}.Checker"


class Checker:
    """Accepts the secret itself, as long as the age is that of the options."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def unsign(self, token: str, max_age: float | None) -> None:
        if (token, max_age) != (self.secret, 60.0):
            raise KeyError(token)


class Toothless:
    """Has no `unsign`."""

    def __init__(self, secret: str) -> None:
        self.secret = secret


def test_an_exception_of_the_class_refuses_the_signature() -> None:
    """It is made with the secret, and any exception of it refuses the token."""
    checker = ForeignChecker(NAME, "s", 60.0)
    checker.check("s", "/message", 0.0)
    with pytest.raises(BadSignature):
        checker.check("other", "/message", 0.0)
    with pytest.raises(BadSignature):
        ForeignChecker(NAME, "s", None).check("s", "/message", 0.0)


@pytest.mark.parametrize(
    "name", ["no.such.module.Checker", f"{__name__}.Missing", f"{__name__}.NAME", f"{__name__}.Toothless"]
)
def test_a_class_that_cannot_be_used_is_a_fault_of_the_option(name: str) -> None:
    """At the start, not at the first call."""
    with pytest.raises(ConfigError, match="signature_checker"):
        ForeignChecker(name, "s", 60.0)
