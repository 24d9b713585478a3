"""`/user_state` and the seed's `/user_status`."""

from typing import Any

from msgspec import UNSET

from channelstream.api.call import Call
from channelstream.api.connections import STATUS_KEY
from channelstream.api.schemas import UserStateBody, UserStatusBody
from channelstream.api.validation import decode, unknown_user
from channelstream.core.user import UserUpdate


async def user_state(call: Call) -> dict[str, Any]:
    """Change keys of a user's state, and the set of public keys."""
    body = await decode(call.body, UserStateBody, call.walker)
    keys = None if body.state_public_keys is UNSET else body.state_public_keys
    return await _change(call, body.user, UserUpdate(values=body.user_state, fresh={}, public_keys=keys))


async def user_status(call: Call) -> dict[str, Any]:
    """Set the public state key `status`."""
    body = await decode(call.body, UserStatusBody, call.walker)
    update = UserUpdate(values={STATUS_KEY: body.status}, fresh={}, add_public=(STATUS_KEY,))
    return await _change(call, body.user, update) | {STATUS_KEY: body.status}


async def _change(call: Call, name: str, update: UserUpdate) -> dict[str, Any]:
    change = await call.service.announced(call.service.update_user(name, update))
    if change is None:
        raise unknown_user()
    return {
        "user_state": change.user.state,
        "changed_state": [{"key": key, "value": value} for key, value in change.changed],
        "public_keys": change.user.public_keys,
    }
