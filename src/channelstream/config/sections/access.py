"""Who may call, sign in and open streams, and by what they prove it."""

# ruff: noqa: RUF009 - `Section.option` declares a field; it computes no default.

from dataclasses import dataclass
from typing import Literal

from channelstream.config.networks import Networks
from channelstream.config.option import Section
from channelstream.config.sections.kinds import AGE, DAY_S, PATH
from channelstream.config.token_issuers import Issuers
from channelstream.config.values import Choice, Number, Origins, Switch, Text

RawSecret = Literal["loopback", "always", "never"]
RequestSigning = Literal["any", "signed", "old"]
SignatureText = Literal["compat", "path", "any"]

CHECKER_OF_0_7 = "channelstream.utils.DefaultSigner"
"""The check of 0.7, which `make_config` of 0.7 writes into its files; the server's own check has its place."""


class _CheckerName(Text):
    """The dotted name of a class, or nothing for the server's own check."""

    __slots__ = ()

    def parse(self, text: str) -> str:
        return "" if text == CHECKER_OF_0_7 else super().parse(text)


_section = Section("Access")
_dotted = _CheckerName(
    pattern=r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)+)?", description="a dotted name such as package.module.Class"
)


@dataclass(frozen=True, kw_only=True)
class AccessOptions:
    """The options of the section Access."""

    secret: str = _section.option(
        "secret",
        Text(),
        "The key with which applications sign requests.",
        short="-s",
        secret=True,
        per_app=True,
    )
    secret_file: str = _section.option(
        "",
        PATH,
        "Path of a file with the secret, in place of the option secret; its further lines are older secrets, which are"
        " accepted as well. SIGHUP reads it again (docs/security.md).",
        per_app=True,
        identifies=True,
    )
    keys_file: str = _section.option(
        "",
        PATH,
        "Path of a file with further keys, for all applications: `channelstream keys` writes it, and SIGHUP reads it again"
        " (docs/security.md).",
    )
    admin_user: str = _section.option(
        "admin",
        Text(),
        "The user name of the sign-in form; with HTTP Basic any name is accepted.",
        per_app=True,
    )
    admin_secret: str = _section.option(
        "admin_secret",
        Text(),
        "The password for signing in to /admin.",
        short="-a",
        secret=True,
        per_app=True,
    )
    admin_reader_user: str = _section.option(
        "reader",
        Text(),
        "The user name of a second sign-in, which may look at all of /admin and change nothing.",
        per_app=True,
    )
    admin_reader_secret: str = _section.option(
        "",
        Text(),
        "The password of the second sign-in, also with HTTP Basic; empty means that there is none.",
        secret=True,
        per_app=True,
    )
    cookie_secret: str = _section.option(
        "",
        Text(),
        "The key that signs the admin cookie; empty means a random key at each start, the same for all workers.",
        secret=True,
    )
    allow_posting_from: tuple[str, ...] = _section.option(
        ("127.0.0.1",),
        Networks(),
        "Addresses and networks that may call the API; 0.0.0.0 means everybody.",
        short="-x",
        per_app=True,
    )
    trusted_proxies: tuple[str, ...] = _section.option(
        (),
        Networks(),
        "Addresses and networks whose X-Forwarded-For, Forwarded, X-Script-Name and scheme headers are trusted.",
    )
    metrics_allow: tuple[str, ...] = _section.option(
        (),
        Networks(),
        "Addresses and networks that may read /metrics without credentials; admins always may. At metrics_port, empty"
        " means everybody who reaches it.",
    )
    allow_cors: tuple[str, ...] = _section.option(
        (),
        Origins(),
        "Origins of pages that may open streams and read answers; empty means all.",
        per_app=True,
    )
    request_signing: RequestSigning = _section.option(
        "any",
        Choice[RequestSigning]("any", "signed", "old"),
        "Which credentials calls may have: signatures over the whole request (signed), those of the older generations (old),"
        " or both and bearer keys (any) (docs/security.md).",
        per_app=True,
    )
    validate_requests: bool = _section.option(
        True, Switch(), "Check the age of old signatures; false accepts any age.", per_app=True
    )
    signature_text: SignatureText = _section.option(
        "compat",
        Choice[SignatureText]("compat", "path", "any"),
        "Which text an old signature must hold: path means the path of the call; compat also accepts text that does not"
        " begin with a slash; any accepts every text.",
        per_app=True,
    )
    signature_max_age_s: float = _section.option(
        60.0, AGE, "How old a signature may be.", unit="seconds", per_app=True
    )
    signature_max_ahead_s: float = _section.option(
        60.0,
        Number(0, DAY_S),
        "How far a signature's clock may be ahead of the server's.",
        unit="seconds",
        per_app=True,
    )
    raw_secret_in_query: RawSecret = _section.option(
        "loopback",
        Choice[RawSecret]("loopback", "always", "never"),
        "Which callers may send the secret itself as ?secret= instead of a signature.",
        per_app=True,
    )
    signature_checker: str = _section.option(
        "",
        _dotted,
        "Dotted name of a class whose `unsign` replaces the check of old signatures.",
        per_app=True,
    )

    token_max_age_s: float = _section.option(
        0.0,
        Number(0, 365 * DAY_S),
        "How far ahead a client's token may expire; 0 accepts no tokens (docs/tokens.md).",
        unit="seconds",
        per_app=True,
    )
    token_audience: str = _section.option(
        "",
        Text(max_bytes=512),
        "What the claim aud of a client's token must name; empty accepts only tokens without it.",
        per_app=True,
    )
    token_issuers: tuple[str, ...] = _section.option(
        (),
        Issuers(),
        "Who else may sign clients' tokens, with private keys: the claim iss, the algorithm and the public keys of each"
        " (docs/tokens.md).",
        per_app=True,
        identifies=True,
    )
    client_state: bool = _section.option(
        False, Switch(), "Let clients with tokens change the states of their users.", per_app=True
    )
