"""The error of the checker."""


class Failure(AssertionError):
    """The product broke a promise."""


def demand(holds: bool, *promise: object) -> None:
    """Raise Failure with these words unless it holds."""
    if not holds:
        raise Failure(" ".join(map(str, promise)))
