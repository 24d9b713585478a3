"""docs/options.md, rendered from the table of options."""

from collections.abc import Iterator, Sequence

from channelstream.config.app_names import MAX_APPS
from channelstream.config.option import Option
from channelstream.config.settings import NEVER_SHARED, OPTIONS, PER_APP, SECTIONS

_INTRODUCTION = """\
# Options

Every option can be set in three places. A flag overrides the environment, and the environment overrides the file.

| where | how `poll_timeout_s` is written |
| --- | --- |
| command line | `--poll-timeout-s 10` |
| environment | `CHANNELSTREAM_POLL_TIMEOUT_S=10` |
| INI file, section `[channelstream]` | `poll_timeout_s = 10` |

Name the file with `-i FILE`, with `FILE` alone, or in the variable `CHANNELSTREAM_INI`.
`channelstream make-config` writes a file with random secrets; `channelstream check-config` reports the
faults of a file, and [`channelstream doctor`](deployment.md#doctor) those of a service.
In the file `%` is an ordinary character, a list may span several lines, and a comment has a line of its own.

A name in a file or in the environment that is no option is reported and ignored; an unknown flag ends the
program. A value that is not allowed ends it with one line that names the option, the value and the allowed values.

## Exit codes

| code | what it means, of the server and of all commands |
| --- | --- |
| 0 | done |
| 1 | the work failed: the server that a command calls refuses it or does not answer, or a check finds a fault |
| 2 | what the command line or an option says cannot be used: a value, a file, a port, the Redis of `engine` |
| 130, 143 | Ctrl-C, or SIGTERM, ended a command; those that have no other end, as `listen` and the server, end with 0 |
"""


def render_markdown() -> str:
    """Return the whole page."""
    lines = [
        _INTRODUCTION,
        "This page is generated from the table in `src/channelstream/config/sections`:",
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
    lines += ["", "## Options of an application", "", *_of_applications()]
    return "\n".join(lines) + "\n"


def _of_applications() -> Iterator[str]:
    yield "A section `[app:ID]` of the file makes a further [application](applications.md). It may set these options:"
    yield from _listed(PER_APP, "")
    yield ""
    yield "- An option that it does not set has the value of `[channelstream]`, except these, which are empty:"
    yield from _listed(NEVER_SHARED, "  ")
    yield "- In the environment its `secret` is `CHANNELSTREAM_APP_ID_SECRET`, with the id in capitals; an id with a dash"
    yield "  has to stand in the file. There are no flags for it."
    yield "- A name in its section that is no such option is an error, since what it should restrict would stay open."
    yield f"- At most {MAX_APPS} sections are allowed. Two applications never have the same secret."


def _listed(names: Sequence[str], indent: str) -> Iterator[str]:
    """Yield a line for each name, so that two changes rarely meet."""
    yield from (f"{indent}`{name}`," for name in names[:-1])
    yield f"{indent}`{names[-1]}`."


def _rows(title: str) -> Iterator[str]:
    return (_row(option) for option in OPTIONS if option.declared.section == title)


def _row(option: Option) -> str:
    declared = option.declared
    names = [f"`{name}`" for name in (option.name, declared.short, declared.alias) if name]
    default = f"`{option.default_text}`" if option.default_text else "empty"
    return f"| {', '.join(names)} | {default} | {option.allowed} | {declared.sentence} |"
