"""The fields of a form that a page sends."""

from urllib.parse import parse_qsl

MAX_FIELDS = 16
"""Most fields of a form; one with more counts as malformed."""


def read_form(body: bytes) -> dict[str, str]:
    """Return the fields of an urlencoded form, or no fields if it is malformed."""
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}
