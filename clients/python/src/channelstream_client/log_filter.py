"""Keeps connection ids out of logs and errors. An id is a secret: a client that has it can receive the events."""

import logging

import httpx

from channelstream_client.protocol import without_id


class _WithoutIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(without_id(str(a)) if isinstance(a, httpx.URL) else a for a in record.args)
        return True


_FILTER = _WithoutIds()


def hide_ids() -> None:
    """Mask ids in the line that httpx logs for each request. Repeated calls have no further effect."""
    logging.getLogger("httpx").addFilter(_FILTER)
