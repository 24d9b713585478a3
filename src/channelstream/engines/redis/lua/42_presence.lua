-- The members of channels, and the presence that they cause.
--
-- Presence. A channel counts the connections of each user, and announces only the first and the last. Count and
-- announcement are one step of one script: if they were two, two nodes whose connections of one user join and leave at the
-- same time could announce a leave after the join, and the user would be missing for everybody until the next change. The
-- counts live in the shard of the channel, so no other shard has to answer.
-- Uses: 10_script, 22_log, 30_outbox, 40_channels, 41_users

-- Most users, and bytes, in the list of a presence event. Above that it has no list: it would be sent to each of them.
local MAX_LISTED, MAX_LISTED_BYTES = 1000, SLICE_BYTES / 8

-- The members of a channel, names and states in turn; nil if they are too many.
local function user_list(channel)
  local users, size = {}, 0
  if is_full or call('HLEN', key('cu', channel)) > MAX_LISTED then return nil end
  for _, name in ipairs(call('HKEYS', key('cu', channel))) do
    local state = public_state(name)
    users[#users + 1], users[#users + 2] = name, state
    size = size + #name + #state
    if size > MAX_LISTED_BYTES then return nil end
  end
  use_bytes(COPIED * size)
  return users
end

local function announce_presence(channel, user, joined)
  local known = call('HMGET', key('c', channel), 'presence', 'lists', 'always')
  if known[1] ~= '1' and tonumber(known[3]) == 0 then return end
  local wants_list = known[1] == '1' and known[2] == '1'
  local users = wants_list and user_list(channel) or nil
  local uuid = new_id()
  emit('c', channel, next_offset(), uuid, cmsgpack.pack({ 'presence', uuid, channel, user, joined and public_state(user),
    users or {}, wants_list and not users, known[1] == '1', now_ms }))
end

local function keep_member_fact(kind, channel, user)
  if outbox.wanted_by(kind, channel) and call('HGET', key('c', channel), 'presence') == '1' then
    outbox.keep(kind, channel, user)
  end
end

-- Add a connection to a channel or remove it (by = 1 or -1), and announce the user's first and last one.
local function change_membership(channel, conn_id, user, is_always, by, read_range)
  local connections = count_connection('c', channel, by)
  if is_always then call('HINCRBY', key('c', channel), 'always', by) end
  local left = call('HINCRBY', key('cu', channel), user, by)
  if by == 1 then
    call('HSET', key('cm', channel), conn_id, user)
    call('HSET', key('kc', conn_id), channel, read_range)
    if connections == 1 then outbox.keep('occupied', channel) end
    if left == 1 then
      call('HSET', key('uc', user), channel, version_of(user))
      announce_presence(channel, user, true)
      keep_member_fact('added', channel, user)
    end
  else
    call('HDEL', key('cm', channel), conn_id)
    call('HDEL', key('kc', conn_id), channel)
    if left <= 0 then
      call('HDEL', key('cu', channel), user)
      call('HDEL', key('uc', user), channel)
      announce_presence(channel, user, false)
      keep_member_fact('removed', channel, user)
      drop_copy(user)
    end
    if connections <= 0 then outbox.keep('vacated', channel) end
  end
end
