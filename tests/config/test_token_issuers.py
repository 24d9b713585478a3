"""The option token_issuers."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from channelstream.auth.issuer import SignedBy
from channelstream.config import Settings, safety
from channelstream.config.app_section import AppSection
from channelstream.config.applications import settings_by_app
from channelstream.config.flags import Flags
from channelstream.config.loading import read
from channelstream.config.safety import problems
from channelstream.config.token_issuers import MAX_ISSUERS, Issuers, IssuerSource, read_issuers
from channelstream.config.values import text_of
from channelstream.errors import ConfigError
from channelstream.server import build

GOOD = "https://login.example RS256 https://login.example/keys,\n mobile ES256 /etc/keys.pem"


def test_an_issuer_has_three_words() -> None:
    """Divided by blanks, commas or line ends."""
    found = Issuers().parse(GOOD)
    assert list(read_issuers(found)) == [
        IssuerSource("https://login.example", SignedBy.RS256, "https://login.example/keys"),
        IssuerSource("mobile", SignedBy.ES256, "/etc/keys.pem"),
    ]
    assert Issuers().parse(text_of(found)) == found
    assert Issuers().parse("") == ()
    assert Issuers().parse("a EdDSA http://127.0.0.1:8/keys") == ("a EdDSA http://127.0.0.1:8/keys",)


@pytest.mark.parametrize(
    "text",
    [
        "a RS256",
        "a RS256 /x b",
        "a HS256 /x",
        "a none /x",
        "a RS256 relative/path",
        "a RS256 http://login.example/keys",
        "a RS256 https://user:pass@login.example/keys",
        "a RS256 https:///keys",
        "a RS256 ftp://login.example/keys",
        "a RS256 file:///etc/keys",
        "é RS256 /x",
        "a RS256 /x a ES256 /y",
        " ".join(f"a{number} RS256 /x" for number in range(MAX_ISSUERS + 1)),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """Keys come by https, from this machine, or from a file."""
    with pytest.raises(ValueError, match=r".*"):
        Issuers().parse(text)


def test_a_file_must_have_keys_at_the_start(tmp_path: Path) -> None:
    """Else the server says why it does not start."""
    file = tmp_path / "keys.pem"
    settings = Settings(token_max_age_s=60, token_issuers=(f"a ES256 {file}",))
    with pytest.raises(ConfigError, match=r"token_issuers: .*No such file"):
        build(settings)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    build(settings)


def test_an_application_has_its_own_issuers() -> None:
    """It takes none from the default one, and no two have one of the same name."""
    url = "a ES256 https://login.example/keys"
    default = Settings(token_max_age_s=60, token_issuers=(url,), apps=(AppSection("shop", {"secret": "x"}),))
    assert settings_by_app(default)["shop"].token_issuers == ()
    assert not list(problems(default))
    both = Settings(
        token_max_age_s=60,
        token_issuers=(url,),
        apps=(AppSection("shop", {"secret": "x", "token_issuers": (url,)}),),
    )
    assert [each for each in problems(both) if "'a' is an issuer of 2 applications" in each]


def test_issuers_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says which; also if only a further application has issuers."""
    monkeypatch.setattr(safety, "is_installed", lambda _: False)
    url = ("a ES256 https://login.example/keys",)
    section = AppSection("shop", {"secret": "x", "token_issuers": url})
    for settings in (Settings(token_issuers=url), Settings(apps=(section,))):
        assert [each for each in problems(settings) if "pip install cryptography" in each]


def test_issuers_of_an_application_that_accepts_no_tokens_are_a_warning(tmp_path: Path) -> None:
    """An audience alone as well, unless an application that accepts tokens has it from the default one."""
    issuers, age = "token_issuers = a ES256 https://login.example/keys\n", "token_max_age_s = 60\n"
    shop = f"[app:shop]\nsecret = {'s' * 32}\n"
    refused = "token_max_age_s is not set, so no token is accepted"
    assert _warnings(tmp_path, issuers) == [f"token_issuers: {refused}"]
    assert _warnings(tmp_path, issuers + age) == []
    assert _warnings(tmp_path, shop + issuers) == [f"[app:shop]: token_issuers: {refused}"]
    assert _warnings(tmp_path, "token_audience = push\n" + shop) == [f"token_audience: {refused}"]
    assert _warnings(tmp_path, "token_audience = push\n" + shop + age) == []


def _warnings(directory: Path, text: str) -> list[str]:
    path = directory / "channelstream.ini"
    path.write_text(f"[channelstream]\n{text}")
    return read(Flags(str(path), {}), {}).warnings
