"""docs/options.md, rendered from the table of options."""

from collections.abc import Iterator

from channelstream.config.option import Option
from channelstream.config.settings import OPTIONS, SECTIONS

_INTRODUCTION = """\
# Options

Every option can be given in three places. A flag beats the environment, and the environment beats the file.

| where | how `poll_timeout_s` is written |
| --- | --- |
| command line | `--poll-timeout-s 10` |
| environment | `CHANNELSTREAM_POLL_TIMEOUT_S=10` |
| INI file, section `[channelstream]` | `poll_timeout_s = 10` |

The file is named by `-i FILE`, by `FILE` alone, or by the variable `CHANNELSTREAM_INI`.
`channelstream make-config` writes one with random secrets; `channelstream check-config` says what is wrong
with one. In the file `%` is an ordinary character, and a list may run over several lines.

A name that is no option is reported and ignored. A value that is not allowed ends the program with exit
code 2 and one line that names option, value and what is allowed.
"""


def render_markdown() -> str:
    """The whole page."""
    lines = [
        _INTRODUCTION,
        "This page is made from the table in `src/channelstream/config/settings.py`:",
        "`python -m channelstream.config > docs/options.md`.",
    ]
    for title in SECTIONS:
        lines += [
            "",
            f"## {title}",
            "",
            "| option | default | allowed | what it does |",
            "| --- | --- | --- | --- |",
        ]
        lines += _rows(title)
    return "\n".join(lines) + "\n"


def _rows(title: str) -> Iterator[str]:
    return (_row(option) for option in OPTIONS if option.declared.section == title)


def _row(option: Option) -> str:
    declared = option.declared
    names = [f"`{name}`" for name in (option.name, declared.short, declared.alias) if name]
    default = f"`{option.default_text}`" if option.default_text else "empty"
    return f"| {', '.join(names)} | {default} | {option.allowed} | {declared.sentence} |"
