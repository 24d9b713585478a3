"""`/revoke`: tokens of clients."""

from typing import Any

from msgspec import UNSET

from channelstream.api.call import Call
from channelstream.api.schemas import RevokeBody
from channelstream.api.validation import decode
from channelstream.errors import Invalid

ONE = "Name either a user, or a token by its jti."


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse tokens from now on, and end the connections that use them."""
    body = await decode(call.body, RevokeBody, call.walker)
    if (body.user is UNSET) == (body.jti is UNSET):
        raise Invalid({"user": [ONE]})
    name = body.jti if body.user is UNSET else body.user
    assert name is not UNSET  # noqa: S101 - for the types: one of them is set
    return {"ended": await call.service.revoke(name, is_user=body.user is not UNSET)}
