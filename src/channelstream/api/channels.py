"""`/channel_config` and `/info`."""

import msgspec

from channelstream.api.answers import ChannelsInfo
from channelstream.api.call import Call
from channelstream.api.info import channels_info, info_of, seed_info, split_if_long
from channelstream.api.schemas import InfoBody, InfoOptions
from channelstream.api.validation import decode, decode_channel_configs
from channelstream.http.parts import Parts

CONFIGURE_BATCH = 50
"""Channels configured with one call of the engine: 1 ms, more if a change drops very many events (measured)."""
_SETTINGS_ONLY = InfoOptions(include_history=False, include_users=False)


async def channel_config(call: Call) -> ChannelsInfo | Parts:
    """Change settings of channels. Settings that the body does not name keep their value."""
    configs = await decode_channel_configs(call.body, call.walker)
    await call.slices.due()
    names = list(configs)
    for start in range(0, len(names), CONFIGURE_BATCH):
        part = names[start : start + CONFIGURE_BATCH]
        await call.service.configure({name: msgspec.to_builtins(configs[name]) for name in part})
        await call.slices.due()
    answer = await channels_info(call, names, _SETTINGS_ONLY)
    return await split_if_long(call, answer, answer)


async def info(call: Call) -> ChannelsInfo | Parts:
    """Describe channels and their users."""
    body = await decode(call.body, InfoBody, call.walker) if call.body.strip() else InfoBody()
    answer = await (seed_info if body.is_seed_form else info_of)(call, body.options)
    return await split_if_long(call, answer, answer)
