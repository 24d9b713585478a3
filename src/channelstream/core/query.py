"""Query strings of API calls and streams."""

from urllib.parse import parse_qsl

MAX_FIELDS = 100


def read_query(query_string: bytes) -> dict[str, str]:
    """Return the parameters; the first of several with one name; none if there are more than `MAX_FIELDS`."""
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}
    return dict(reversed(pairs))
