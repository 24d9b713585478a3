-- Operations on channels and users: settings, states and reading.
-- Uses: 10_script, 23_reading, 40_channels, 41_users, 42_presence, 50_connections, 60_table

-- Configure channels; return how many are done.
function operations.configure(a)
  for number, wanted in ipairs(a.channels) do
    if not configure(wanted[1], wanted[2], a.bounds) then return number - 1 end
    if is_out_of_budget() then return number end
  end
  return #a.channels
end

function operations.update_user(a)
  if not is_home(a.user) then return false end
  if not continue_announcing(a.user) then return AGAIN end
  local broken = exceeded_limit(a.user, a.bounds, a.update.values)
  if broken then return broken end
  touch('u', a.user)
  return changed_user(a.user, update_user(a.user, a.update))
end

-- The state of a user, to be copied to other shards whose channels the user joins. Called at the user's home. From then
-- on these shards receive every later change of the state. If this shard is also the directory of the joining
-- connection, `more` has the shards to add to the directory's list.
function operations.copy(a)
  if a.more and not update_shards(a.conn_id, a.node, a.more, {}) then return 'gone' end
  local copies = call('HGET', key('u', a.user), 'copies') or ''
  for _, shard in ipairs(a.shards) do copies = without(copies, shard) .. ' ' .. shard end
  if is_home(a.user) then call('HSET', key('u', a.user), 'copies', copies) end
  return state_to_copy(a.user)
end

function operations.follow_state(a)
  if not continue_announcing(a.user) then return AGAIN end
  apply_copy(ARGV[7])
  return continue_announcing(a.user) and 'done' or AGAIN
end

-- Continue to announce a user's last change of state.
function operations.tell(a) return continue_announcing(a.user) and 'done' or AGAIN end

-- Call `read` for each name until the limits are reached; return {how many names were read, results}.
local function for_each(names, read)
  local found = {}
  for number, name in ipairs(names) do
    local is_cut
    found[#found + 1], is_cut = read(name)
    if is_cut or is_out_of_budget() then return { number, found } end
  end
  return { #names, found }
end

-- The channels of each user in this shard.
function operations.user_channels(a)
  return for_each(a.names, function(name) return { name, channels_of_user(name) } end)
end

-- How many messages of a history are read in one step.
local HISTORY_STEP = 50

-- A part of a visible history after an offset: {entries, the offset after which there are more, or false if there are none}.
local function read_history(name, after)
  local shown, is_last = {}
  repeat
    local order = call('ZRANGEBYSCORE', key('ho', name), '(' .. whole(after), '+inf', 'WITHSCORES', 'LIMIT', 0, HISTORY_STEP)
    is_last = #order < 2 * HISTORY_STEP
    for at = 1, #order, 2 do
      local found = history_record(name, order[at])
      after = tonumber(order[at + 1])
      if found then
        shown[#shown + 1] = encode_record(found[3], 'h', name, found[1], found[2])
      end
      if is_out_of_budget() then return { shown, whole(after) } end
    end
  until is_last
  return { shown, false }
end

function operations.history(a) return read_history(a.channel, a.after) end

-- Channels, as `for_each` answers, and the last offset.
function operations.channels(a)
  local answer = for_each(a.names, function(name)
    local known = call('HMGET', key('c', name), 'id', 'settings', 'active', 'connections', 'always', 'floor')
    if not known[1] then return end
    local users = a.users and read_small(key('cu', name)) or call('HLEN', key('cu', name))
    local shown, after = unpack(read_history(name, 0))
    return { name, known, users, shown, after }, after
  end)
  answer[3] = whole(head())
  return answer
end

function operations.users(a)
  return for_each(a.names, function(name) return read_user(name) or nil end)
end

-- For each user that is in a channel of this shard, or has its home here: the user's name, which keys of the user's state
-- are public, and the state.
function operations.states(a)
  return for_each(a.names, function(name)
    if not is_home(name) and not needs_copy(name) then return nil end
    return { name, call('HGET', key('u', name), 'public') or '', read_all('HGETALL', key('us', name)) }
  end)
end

-- The members of a channel, names and public states in turn, as the events up to an offset have made them: {the offset, the
-- members}. There are none if they are too many for one step; the caller then reads them in others.
function operations.members_at(a) return { whole(head()), user_list(a.channel) or false } end
