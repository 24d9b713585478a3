"""Who asks for a guarded page, and what they may do there."""

from typing import NamedTuple

from starlette.requests import Request


class Caller(NamedTuple):
    """One whom the gate has admitted.

    Attributes:
        name: of the sign-in, or of what signed the request; empty for an address that needs no credentials.
        address: of the client; empty if it is not known.
        may_change: whether the caller may do more than look.
        has_ticket: whether a cookie of the sign-in form admitted the caller.
    """

    name: str
    address: str
    may_change: bool
    has_ticket: bool = False


def caller_of(request: Request) -> Caller:
    """Return whom the gate has admitted with this request."""
    caller = request.state.caller
    assert isinstance(caller, Caller)  # noqa: S101 - only guarded endpoints ask
    return caller


def caller_or_none(request: Request) -> Caller | None:
    """Return whom the gate has admitted with this request; None on a page that is open to everybody."""
    return getattr(request.state, "caller", None)


def admitted(request: Request, caller: Caller) -> Request:
    """Return the request with its caller."""
    request.state.caller = caller
    return request
