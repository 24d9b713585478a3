"""Logging to stderr: one line for each event, readable or JSON, without secrets."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from urllib.parse import quote

from channelstream.config import Settings
from channelstream.config.secret_file import secrets_in_files
from channelstream.config.secret_values import PUBLIC_SECRETS

HANDLER_NAME = "channelstream"
BLOT = "***"

_QUERY = re.compile(r"(?<=[\w/~.*-])\?(\S+)")
_PARAMETER = re.compile(r"[A-Za-z_]{1,32}")
"""Names that may be logged. Any other text may be a value without its name, or an encoded form of a name."""
_SHOWN = frozenset({"since"})
"""Parameters whose values may be logged. Others may be a credential, such as a conn_id, or personal data, such as
what an admin searches for."""
_FIELD = re.compile(
    r"((?:conn_id|secret|password)(?:[\"']\s*:\s*|\s*=\s*))(b?\"[^\"]*\"|b?'[^']*'|[^\s,;)}\]\"']+)",
    re.IGNORECASE,
)
"""Secrets as fields of a dict or arguments of a call, as they appear in errors."""
_USERINFO = re.compile(r"(://[^\s/:@]*:)[^\s/]+@")
"""The password in the address of an engine."""
_HEADER = re.compile(
    r"((?:x-channelstream-secret|authorization|cookie)[\"']?\s*[:=,]\s*)(b?\"[^\"]*\"|b?'[^']*'|[^\r\n]+)",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"\.[\w-]{5,8}\.[\w-]{27,}")
"""Stamp and digest as itsdangerous appends them: SHA-1 makes 27 characters, longer hashes more."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes of every record; all others were passed as `extra`."""


class Redactor:
    """Replaces secrets in text: those of the settings, signatures, and values in queries and headers."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if secret not in PUBLIC_SECRETS}
        spelled = sorted(known | {quote(secret, safe="") for secret in known}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, spelled))) if spelled else None

    def __call__(self, text: str) -> str:
        text = _QUERY.sub(_blotted_query, text)
        text = _FIELD.sub(rf"\1{BLOT}", text)
        text = _USERINFO.sub(rf"\1{BLOT}@", text)
        text = _HEADER.sub(rf"\1{BLOT}", text)
        text = _SIGNATURE.sub(f".{BLOT}", text)
        return self._values.sub(BLOT, text) if self._values else text


def _blotted_query(found: re.Match[str]) -> str:
    query = found[1].rstrip("\"')]}>,;")
    return "?" + "&".join(map(_blotted_parameter, query.split("&"))) + found[1][len(query) :]


def _blotted_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if name in _SHOWN or not parameter:
        return parameter
    if equals and _PARAMETER.fullmatch(name):
        return f"{name}={BLOT if value else ''}"
    return BLOT


class HumanFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO    channelstream.server: text``; a traceback follows, indented."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{when}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: "
        line = head + _one_line(self._redact(record.getMessage()))
        trace = self._redact(_traceback(self, record))
        return line + "".join(f"\n    {row}" for row in trace.splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object: time (UTC), level, logger, message, what was passed as `extra`, and `exception`."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = {key: self._plain(value) for key, value in vars(record).items() if key not in _STANDARD}
        event |= {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if trace := _traceback(self, record):
            event["exception"] = self._redact(trace)
        return json.dumps(event, ensure_ascii=False)

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, int | float):
            return value
        return self._redact(str(value))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _one_line(text: str) -> str:
    """Escape line ends: text of a client must not look like another log line."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def configure(settings: Settings) -> None:
    """Send all logs to stderr in the chosen format; calling it again replaces the first.

    `debug` lowers the level to debug.

    Raises:
        ConfigError: a `secret_file` cannot be used: what is in it is replaced in the logs.
    """
    redact = Redactor((*settings.secrets, *secrets_in_files(settings)))
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER_NAME
    handler.setFormatter(JsonFormatter(redact) if settings.log_format == "json" else HumanFormatter(redact))
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.name != HANDLER_NAME]
    root.addHandler(handler)
    root.setLevel("DEBUG" if settings.debug else settings.log_level.upper())
    # The demo calls the API by httpx, which would log every message.
    logging.getLogger("httpx").setLevel(logging.NOTSET if settings.debug else logging.WARNING)
    # At level debug it logs the headers of answers, such as the cookies of a receiver of webhooks.
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends with s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def restored(connections: int, within_s: float) -> str:
    """Return the line of a server that has restored the connections of its last run."""
    return f"restored {counted(connections, 'connection')}; a client has {within_s:g} s to open its stream"


def stopping(streams: int, within_s: float) -> str:
    """Return the line with which a server begins to stop."""
    return f"stopping: closing {counted(streams, 'stream')}, within {within_s:g} s"
