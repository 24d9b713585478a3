-- Users and their states.
--
-- State. The home of a user is the shard of its name: its hash has an `id` there, and only there the state changes. A
-- shard with channels of the user has a copy with a version, as long as it needs it. A newer version replaces an older
-- one and never the reverse, so copies may arrive twice or in the wrong order.
--
-- Announcing a state. A user may be in more channels than one script may publish to. So a change is announced in pages, and
-- the progress is stored (`uv`: the text and a cursor). Three rules keep the order of changes in every channel:
--   the state does not change again before all channels have the last change: an operation that wants to change it, or
--     joins a channel, continues the announcement first and answers AGAIN until it is done;
--   `uc` has for each channel the version it was sent, so a repeated page sends nothing twice, and a channel that is
--     joined meanwhile, with the new state, is skipped;
--   the user is in the set ANNOUNCING, from which any heartbeat continues: the node that began may have died.
-- One script for all channels would stop Redis for all nodes; a queue per channel would let states overtake joins.
-- Uses: 10_script, 22_log, 40_channels

local function public_keys(user)
  local packed = call('HGET', key('u', user), 'public')
  return packed and packed ~= '' and cmsgpack.unpack(packed) or {}
end

-- The public state of a user: a key and its value in a line, with a tab between. Built once for each change, since a list of
-- users has up to a thousand of them.
local function public_state(user) return call('HGET', key('u', user), 'seen') or '' end

local function is_home(user) return call('HEXISTS', key('u', user), 'id') == 1 end

-- Create a user, if there is none. The bounds of its log are those of the node that had it connect last: options change.
local function open_user(user, fresh, bounds)
  local at, n, age = key('u', user), whole(bounds.user_log_events), whole(bounds.private_age_s * 1000)
  local id, last_n, last_age = unpack(call('HMGET', at, 'id', 'n', 'age'))
  if not id then
    call('HSET', at, 'id', new_id(), 'floor', whole(head()), 'connections', '0', 'n', n, 'age', age)
    call('SADD', PREFIX .. 'known:u', user)
    for _, pair in ipairs(fresh) do
      if pair[2] ~= 'null' then call('HSET', key('us', user), pair[1], pair[2]) end
    end
  elseif n ~= last_n or age ~= last_age then
    call('HSET', at, 'n', n, 'age', age)
    extend_expiry('u', user, tonumber(age))
  end
end

-- The limit that the state would exceed after these lists of values are set in order; nil if none. A state that is too
-- large already may shrink.
local function exceeded_limit(user, bounds, ...)
  local state, before, size, count = call('HGETALL', key('us', user)), 0, 0, 0
  local after = {}
  for at = 1, #state, 2 do
    after[state[at]] = state[at + 1]
    before = before + #state[at] + #state[at + 1]
  end
  for _, values in ipairs({ ... }) do
    for _, pair in ipairs(values) do after[pair[1]] = pair[2] ~= 'null' and pair[2] or nil end
  end
  for name, value in pairs(after) do
    count, size = count + 1, size + #name + #value
  end
  if count > bounds.state_keys then return 'full' end
  if size > bounds.state_bytes and size > before then return 'large' end
end

-- The public state of a user: value by key.
local function visible_state(user)
  local names, seen = public_keys(user), {}
  local values = names[1] and call('HMGET', key('us', user), unpack(names))
  for number, name in ipairs(names) do seen[name] = values[number] or nil end
  return seen
end

-- Store the public state as text, after a change.
local function cache_visible_state(user)
  local parts, seen = {}, visible_state(user)
  for _, name in ipairs(public_keys(user)) do
    if seen[name] then parts[#parts + 1] = name .. '\t' .. seen[name] end
  end
  call('HSET', key('u', user), 'seen', table.concat(parts, '\n'))
end

-- The version of a state: a greater one is newer.
local function version_of(user) return call('HGET', key('u', user), 'version') or '0' end

-- The changes between two public states: keys and values in turn. A key that is no longer public becomes null.
local function differences(before, after)
  local names, parts = {}, {}
  for name, value in pairs(after) do
    if before[name] ~= value then names[#names + 1] = name end
  end
  for name in pairs(before) do
    if not after[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1], parts[#parts + 2] = name, after[name] or 'null' end
  return parts
end

-- Channels of a user in one page.
local STATE_PAGE = 50
local ANNOUNCING = PREFIX .. 'telling'

-- Publish a state to channels, given as the packed rest of the event; return to how many before the limits were reached.
local function announce_to(channels, rest)
  local user, state, changed, at = unpack(cmsgpack.unpack(rest))
  for number, channel in ipairs(channels) do
    if call('HGET', key('c', channel), 'state') == '1' then
      local uuid = new_id()
      emit('c', channel, next_offset(), uuid, cmsgpack.pack({ 'state', uuid, channel, user, state, changed, at }))
      touch('c', channel)
    end
    if is_out_of_budget() then return number end
  end
  return #channels
end

-- The channels of a page, sorted, that were not sent this version of the state.
local function outdated(page, version)
  local channels = {}
  for at = 1, #page, 2 do
    if page[at + 1] ~= version then channels[#channels + 1] = page[at] end
  end
  table.sort(channels)
  return channels
end

-- Record that channels were sent this version of the state.
local function set_versions(user, channels, count, version)
  local pairs_of = {}
  for number = 1, count do
    pairs_of[2 * number - 1], pairs_of[2 * number] = channels[number], version
  end
  if count > 0 then call('HSET', key('uc', user), unpack(pairs_of)) end
end

-- Announce a state to the user's channels, page by page, until the limits are reached; return the cursor from which to
-- continue, or nil if all have it.
local function announce_from(user, rest, cursor)
  local version = version_of(user)
  repeat
    local following, page = unpack(call('HSCAN', key('uc', user), cursor, 'COUNT', STATE_PAGE))
    local channels = outdated(page, version)
    local count = announce_to(channels, rest)
    set_versions(user, channels, count, version)
    if count < #channels then return cursor end
    cursor = following
  until cursor == '0' or is_out_of_budget()
  return cursor ~= '0' and cursor or nil
end

-- Continue the announcement of a user's last change; return whether all channels have it. Every operation that changes the
-- state, or depends on it, calls this first.
local function continue_announcing(user)
  local uv = key('uv', user)
  local rest, cursor = unpack(call('HMGET', uv, 'rest', 'cursor'))
  if not rest then return true end
  cursor = announce_from(user, rest, cursor)
  if cursor then
    call('HSET', uv, 'cursor', cursor)
    return false
  end
  call('DEL', uv)
  call('SREM', ANNOUNCING, user)
  return true
end

-- Continue announcements that other callers began: they may have died.
local function continue_others()
  for _, user in ipairs(call('SRANDMEMBER', ANNOUNCING, STATE_PAGE)) do
    if not continue_announcing(user) then return end
    -- Also if there was nothing to continue: the set must not keep it.
    call('SREM', ANNOUNCING, user)
  end
end

-- Announce to the user's channels what has changed since the public state `before`; `continue_announcing` does the rest.
local function announce_change(user, before)
  local parts = differences(before, visible_state(user))
  if #parts == 0 then return end
  local rest = cmsgpack.pack({ user, public_state(user), parts, now_ms })
  local cursor = announce_from(user, rest, '0')
  if not cursor then return end
  call('HSET', key('uv', user), 'rest', rest, 'cursor', cursor)
  call('SADD', ANNOUNCING, user)
end

-- Set a key; null removes it.
local function set_state(user, name, value)
  if value == 'null' then call('HDEL', key('us', user), name) else call('HSET', key('us', user), name, value) end
end

-- Let the update of a user without a connection replace the whole state by `first`, all of it public.
local function replace_state(user, update)
  if (call('HGET', key('u', user), 'connections') or '0') ~= '0' then return end
  local after, keys, values = {}, {}, {}
  for _, name in ipairs(call('HKEYS', key('us', user))) do after[name] = 'null' end
  for number, pair in ipairs(update.first) do keys[number], after[pair[1]] = pair[1], pair[2] end
  for _, pair in ipairs(update.values) do after[pair[1]] = pair[2] end
  for name, value in pairs(after) do values[#values + 1] = { name, value } end
  table.sort(values, function(one, other) return one[1] < other[1] end)
  update.values, update.public_keys = values, keys
end

local function update_user(user, update)
  local keys = update.public_keys or public_keys(user)
  for _, name in ipairs(update.add_public) do
    local known = false
    for _, other in ipairs(keys) do known = known or other == name end
    if not known then keys[#keys + 1] = name end
  end
  local changed, before = {}, visible_state(user)
  for _, pair in ipairs(update.values) do
    local old = call('HGET', key('us', user), pair[1])
    if old ~= pair[2] and (old or pair[2] ~= 'null') then
      set_state(user, pair[1], pair[2])
      changed[#changed + 1] = pair
    end
  end
  if #changed > 0 or update.public_keys or #update.add_public > 0 then
    -- At least the time: if the home loses its data, the version must still be greater than those of all older copies.
    local version = math.max(tonumber(version_of(user)) + 1, now_ms)
    call('HSET', key('u', user), 'version', whole(version), 'public', cmsgpack.pack(keys))
    cache_visible_state(user)
    announce_change(user, before)
  end
  return changed
end

-- The copy of a user's state for other shards, packed.
local function state_to_copy(user)
  local known = call('HMGET', key('u', user), 'version', 'public')
  return cmsgpack.pack({ user, known[1] or '0', known[2] or '', call('HGETALL', key('us', user)) })
end

local COPY_S = 60

local function needs_copy(user) return call('EXISTS', key('uc', user)) == 1 end

-- The changes that make the state here equal to that of the home, given as fields and values.
local function changes_to(user, state)
  local changed, there = {}, {}
  for at = 1, #state, 2 do
    there[state[at]] = true
    if call('HGET', key('us', user), state[at]) ~= state[at + 1] then
      changed[#changed + 1] = { state[at], state[at + 1] }
    end
  end
  for _, name in ipairs(call('HKEYS', key('us', user))) do
    if not there[name] then changed[#changed + 1] = { name, 'null' } end
  end
  table.sort(changed, function(one, other) return one[1] < other[1] end)
  return changed
end

-- Apply a newer state from the user's home, and announce the changes to the channels here.
local function apply_copy(packed)
  if packed == '' then return end
  local user, version, public, state = unpack(cmsgpack.unpack(packed))
  if tonumber(version) <= tonumber(version_of(user)) then return end
  local before = visible_state(user)
  for _, pair in ipairs(changes_to(user, state)) do set_state(user, pair[1], pair[2]) end
  call('HSET', key('u', user), 'version', version, 'public', public)
  cache_visible_state(user)
  if needs_copy(user) then
    announce_change(user, before)
  else
    -- Kept for a minute: a join that is on its way brings an older copy, which must not replace this one.
    call('EXPIRE', key('u', user), COPY_S)
    call('EXPIRE', key('us', user), COPY_S)
  end
end

local function persist_copy(user)
  if is_home(user) or not needs_copy(user) then return end
  call('PERSIST', key('u', user))
  call('PERSIST', key('us', user))
end

local function drop_copy(user)
  if not is_home(user) and not needs_copy(user) then call('DEL', key('u', user), key('us', user)) end
end
