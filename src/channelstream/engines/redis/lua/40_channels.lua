-- Channels: their settings and histories; and when channels and users were used last.
-- Uses: 10_script, 20_records, 22_log

-- Whether this is the key of a user whose name counts in one place only, as apps/keys.py makes it.
local function is_member_key(name) return name:find('^\31[^\31]*\30') ~= nil end

-- Whether a channel is brief (`Channel.is_brief`): it has the field of this name, and never had an event.
local function is_brief(channel)
  local known = call('HMGET', key('c', channel), 'brief', 'last')
  return known[1] and not known[2]
end

-- Record the time of use. A channel or user with no connection is also put into a set ordered by time, for `collect`. The
-- first of all are those to which nobody comes back: brief channels, and users whose name counts in one place only.
local function touch(kind, name, connections)
  call('HSET', key(kind, name), 'active', whole(now_ms))
  if tonumber(connections or call('HGET', key(kind, name), 'connections') or '0') <= 0 then
    local is_over = kind == 'u' and is_member_key(name) or kind == 'c' and is_brief(name)
    call('ZADD', PREFIX .. 'idle:' .. kind, is_over and '0' or whole(now_ms), name)
  end
end

-- Change the number of connections of a channel or a user (by = 1 or -1), and return it.
local function count_connection(kind, name, by)
  local connections = call('HINCRBY', key(kind, name), 'connections', by)
  if by == 1 and connections == 1 then call('ZREM', PREFIX .. 'idle:' .. kind, name) end
  touch(kind, name, connections)
  return connections
end

local function write_settings(name, settings, bounds)
  settings.history_size = math.min(settings.history_size, bounds.history_size)
  local age = math.max(settings.store_frames and settings.log_age_s or 0, bounds.transit_s) * 1000
  local shown = settings.store_history and settings.history_size or 0
  call('HSET', key('c', name), 'settings', cmsgpack.pack(settings), 'n', whole(settings.log_events), 'age', whole(age),
    'shown', whole(shown), 'presence', settings.notify_presence and '1' or '',
    'lists', settings.broadcast_presence_with_user_lists and '1' or '', 'state', settings.notify_state and '1' or '')
end

-- Create a channel, if there is none: nothing was published in it after `floor`. It is brief as long as it is opened for
-- users to whom nobody comes back.
local function open_channel(name, patch, bounds, floor, user)
  local keeps = not (user and is_member_key(user))
  local known = call('HMGET', key('c', name), 'id', 'brief')
  if known[1] then
    if known[2] and keeps then
      call('HDEL', key('c', name), 'brief')
      touch('c', name)
    end
    return
  end
  local settings = {}
  for field, value in pairs(bounds.settings) do settings[field] = value end
  for field, value in pairs(patch) do settings[field] = value end
  call('HSET', key('c', name), 'id', new_id(), 'floor', whole(floor), 'connections', '0',
    'always', '0')
  if not keeps and not next(patch) then call('HSET', key('c', name), 'brief', '1') end
  call('SADD', PREFIX .. 'known:c', name)
  write_settings(name, settings, bounds)
  touch('c', name, 0)
end

-- A message of the visible history: {offset, time in ms, record}.
local function history_record(channel, uuid)
  local packed = call('HGET', key('hr', channel), uuid)
  return packed and cmsgpack.unpack(packed)
end

-- Drop some messages beyond the limit of a visible history; return whether there are more.
local function trim_history(name, shown)
  local excess = call('ZCARD', key('ho', name)) - shown
  if excess <= 0 then return false end
  local most = drop_limit('h', name)
  local dropped = call('ZRANGE', key('ho', name), 0, math.min(excess, most) - 1)
  call('HDEL', key('hr', name), unpack(dropped))
  call('ZREM', key('ho', name), unpack(dropped))
  clear_payloads('h', name, dropped)
  return excess > most
end

-- Change settings, and trim log and history to them; return whether that is done. If not, the caller repeats it.
local function configure(name, patch, bounds)
  open_channel(name, {}, bounds, head())
  local settings = cmsgpack.unpack(call('HGET', key('c', name), 'settings'))
  for field, value in pairs(patch) do settings[field] = value end
  write_settings(name, settings, bounds)
  local shown, age = unpack(call('HMGET', key('c', name), 'shown', 'age'))
  shown = tonumber(shown)
  extend_expiry('c', name, tonumber(age))
  repeat
    local more = trim_to_limit('c', name, settings.log_events)
    more = trim_history(name, shown) or more
  until not more or is_out_of_budget()
  return call('XLEN', key('cl', name)) <= settings.log_events and call('ZCARD', key('ho', name)) <= shown
end
