"""The rows of this API, of which one server has one set: their paths name the application."""

from typing import Any

from channelstream.api.pusher import bodies, channels, events, users
from channelstream.api.table import Auth, Endpoint
from channelstream.apps.principal import Right

_APP = "/apps/{app_id}"

PUSHER_ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        path=f"{_APP}/events",
        methods=("POST",),
        handler=events.trigger,
        right=Right.PUBLISH,
        request=bodies.EventBody,
        response=dict[str, Any],
        summary="Send an event",
        description="Sends an event to one or more channels.",
        auth=Auth.PUSHER,
    ),
    Endpoint(
        path=f"{_APP}/batch_events",
        methods=("POST",),
        handler=events.trigger_batch,
        right=Right.PUBLISH,
        request=bodies.BatchBody,
        response=dict[str, Any],
        summary="Send several events",
        description="Sends up to 10 events, all or none.",
        auth=Auth.PUSHER,
    ),
    Endpoint(
        path=f"{_APP}/channels",
        methods=("GET",),
        handler=channels.channels,
        right=Right.INFO,
        request=None,
        response=dict[str, Any],
        summary="List occupied channels",
        description="Lists the channels with at least one connection.",
        auth=Auth.PUSHER,
        query=("filter_by_prefix", "info"),
    ),
    Endpoint(
        path=f"{_APP}/channels/{{channel}}",
        methods=("GET",),
        handler=channels.channel,
        right=Right.INFO,
        request=None,
        response=dict[str, Any],
        summary="Describe a channel",
        description="Describes a channel, whether it is occupied or not.",
        auth=Auth.PUSHER,
        query=("info",),
    ),
    Endpoint(
        path=f"{_APP}/channels/{{channel}}/users",
        methods=("GET",),
        handler=channels.users,
        right=Right.INFO,
        request=None,
        response=dict[str, Any],
        summary="List users",
        description="Lists the users of a presence channel.",
        auth=Auth.PUSHER,
    ),
    Endpoint(
        path=f"{_APP}/users/{{user:path}}/terminate_connections",
        methods=("POST",),
        handler=users.terminate,
        right=Right.CONNECT,
        request=bodies.Nothing,
        response=dict[str, Any],
        summary="End a user's connections",
        description="Ends the connections that a user has signed in on, at all nodes.",
        auth=Auth.PUSHER,
    ),
)
