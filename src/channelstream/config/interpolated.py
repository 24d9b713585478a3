"""Secrets in an INI file that version 0.7 read otherwise: there `%%` meant `%`, and `%(name)s` the value of another option.

Here `%` is an ordinary character. A file that moves from 0.7 is served as it stands, and each call with the old value is
answered 401.
"""

from collections.abc import Iterator
from configparser import ConfigParser, InterpolationError

from channelstream.config.settings import Settings
from channelstream.config.sources import SECTION

OLD_SECRETS = ("secret", "admin_secret", "cookie_secret")
"""The secrets that 0.7 had."""
ADVICE = "if the file is of 0.7, write the value that it read: % for %%; or else leave it"


def warnings(settings: Settings, ini: str) -> Iterator[str]:
    """Yield a sentence about each secret of this file that 0.7 read otherwise, without its value.

    A value that another source overrides has no effect. One that 0.7 could not read was not made for it.
    """
    parser = ConfigParser()
    parser.read(ini, "utf-8-sig")
    for name in OLD_SECRETS:
        text = parser.get(SECTION, name, raw=True, fallback="")
        try:
            is_other = parser.get(SECTION, name, fallback="") != text
        except InterpolationError:
            continue
        if is_other and text == getattr(settings, name):
            yield f"0.7 read another value of {name} in this file: it read %% as %, and %(name)s as another option's value"
