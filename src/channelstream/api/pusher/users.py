"""Users who have signed in: `/users/ID/terminate_connections`."""

from typing import Any

from channelstream.api.call import Call
from channelstream.api.pusher.application import pusher_of
from channelstream.api.pusher.bodies import Nothing, read_body
from channelstream.close_codes import CloseCode
from channelstream.core.pusher_names import SIGNED_IN
from channelstream.service import Memberships


async def terminate(call: Call) -> dict[str, Any]:
    """End the connections that a user has signed in on, at all nodes; an unknown user has none."""
    if call.body.strip():
        await read_body(call.body, Nothing, call.walker)
    channel = pusher_of(call).channel(SIGNED_IN + call.parameters["user"])
    await Memberships(call.service).end_in(
        channel, CloseCode.NORMAL, "the application has ended the user's connections"
    )
    return {}
