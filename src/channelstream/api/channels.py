"""`/channel_config` and `/info`."""

from typing import Any

import msgspec

from channelstream.api.call import Call
from channelstream.api.info import channels_info, info_of, seed_info
from channelstream.api.schemas import InfoBody, InfoOptions
from channelstream.api.validation import decode, decode_channel_configs

CONFIGURED = 200
"""Channels configured at a stretch."""
_SETTINGS_ONLY = InfoOptions(include_history=False, include_users=False)


async def channel_config(call: Call) -> dict[str, Any]:
    """Change settings of channels; those not named stay as they are."""
    configs = decode_channel_configs(call.body)
    names = list(configs)
    for start in range(0, len(names), CONFIGURED):
        part = names[start : start + CONFIGURED]
        await call.node.engine.configure({name: msgspec.to_builtins(configs[name]) for name in part})
        await call.turns.due()
    return await channels_info(call, names, _SETTINGS_ONLY)


async def info(call: Call) -> dict[str, Any]:
    """Tell about channels and their users."""
    body = decode(call.body, InfoBody) if call.body.strip() else InfoBody()
    if body.is_seed_form:
        return await seed_info(call, body.options)
    return await info_of(call, body.options)
