"""Which content codings a browser accepts (RFC 9110, 12.5.3)."""


def accepts_gzip(header: str) -> bool:
    """Return whether a value of Accept-Encoding accepts gzip. Without one, or where its weight is 0, it does not."""
    weights = dict(map(_weighted, header.split(",")))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weighted(item: str) -> tuple[str, float]:
    """Return a coding with its weight; one that cannot be read counts as 0."""
    coding, *parameters = (part.strip().lower() for part in item.split(";"))
    given = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
    try:
        return coding, float(given[0]) if given else 1.0
    except ValueError:
        return coding, 0.0
