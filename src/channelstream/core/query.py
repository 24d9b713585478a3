"""Query strings of API calls and streams."""

from urllib.parse import parse_qsl

MAX_FIELDS = 100


def read_query(query_string: bytes) -> dict[str, str]:
    """Return the parameters; the first of several with one name; none if there are more than `MAX_FIELDS`."""
    if not query_string:
        return {}
    if b"%" not in query_string and b"+" not in query_string:
        return _read_plain(query_string.decode("latin-1"))
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}
    return dict(reversed(pairs))


def _read_plain(query: str) -> dict[str, str]:
    """Read a query without escapes, as most of streams are: `parse_qsl` takes three times as long."""
    fields = query.split("&")
    if len(fields) > MAX_FIELDS:
        return {}
    found: dict[str, str] = {}
    for field in reversed(fields):
        if field:
            name, _, value = field.partition("=")
            found[name] = value
    return found
