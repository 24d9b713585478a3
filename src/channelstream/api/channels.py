"""`/channel_config` and `/info`."""

import msgspec

from channelstream.api.call import Call
from channelstream.api.info import Answer, channels_info, info_of, seed_info, told_whole
from channelstream.api.schemas import InfoBody, InfoOptions
from channelstream.api.validation import decode, decode_channel_configs
from channelstream.asgi import Parts

CONFIGURED = 200
"""Channels configured at a stretch."""
_SETTINGS_ONLY = InfoOptions(include_history=False, include_users=False)


async def channel_config(call: Call) -> Answer | Parts:
    """Change settings of channels; those not named stay as they are."""
    configs = decode_channel_configs(call.body)
    names = list(configs)
    for start in range(0, len(names), CONFIGURED):
        part = names[start : start + CONFIGURED]
        await call.node.engine.configure({name: msgspec.to_builtins(configs[name]) for name in part})
        await call.turns.due()
    told = await channels_info(call, names, _SETTINGS_ONLY)
    return await told_whole(call, told, told)


async def info(call: Call) -> Answer | Parts:
    """Tell about channels and their users."""
    body = decode(call.body, InfoBody) if call.body.strip() else InfoBody()
    told = await (seed_info if body.is_seed_form else info_of)(call, body.options)
    return await told_whole(call, told, told)
