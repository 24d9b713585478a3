"""The id of a connection is a secret, as who has it may listen: it stays out of logs and errors."""

import logging
import re

import httpx

_ID = re.compile(r"conn_id=[^&\s'\"]*")


def without_id(text: str) -> str:
    """A text with the ids in its addresses left out."""
    return _ID.sub("conn_id=...", text)


class _WithoutIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(without_id(str(a)) if isinstance(a, httpx.URL) else a for a in record.args)
        return True


_FILTER = _WithoutIds()


def hide_ids() -> None:
    """Keep ids out of the line that httpx logs for each request; once is enough, and more does no harm."""
    logging.getLogger("httpx").addFilter(_FILTER)
