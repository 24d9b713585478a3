"""Keeps connection ids and tokens out of logs. An id is a secret: a client that has it can receive the events."""

import logging
import re

import httpx

from channelstream_client.protocol import without_id

_TOKEN = re.compile(r"(?i)(bearer) \S+")


class _WithoutSecrets(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_masked(each) for each in record.args)
        return True


def _masked(value: object) -> object:
    return _TOKEN.sub(r"\1 ...", without_id(str(value))) if isinstance(value, (str, httpx.URL)) else value


_FILTER = _WithoutSecrets()

WEBSOCKETS = logging.getLogger("channelstream_client.websockets")
"""What websockets logs of this client's streams: at the level DEBUG each line of a request."""
WEBSOCKETS.addFilter(_FILTER)


def hide_ids() -> None:
    """Mask ids in the line that httpx logs for each request. Repeated calls have no further effect."""
    logging.getLogger("httpx").addFilter(_FILTER)
