"""The application of a call of this API."""

from channelstream.api.call import Call
from channelstream.apps.pusher_app import PusherApp


def pusher_of(call: Call) -> PusherApp:
    """Return what the application of a call has for the protocol."""
    pusher = call.service.app.pusher
    assert pusher is not None  # noqa: S101 - for the types: `auth.pusher` admits no other
    return pusher
