-- The connections registered in this shard, and the nodes they are registered for (see `connections.py` for the protocol
-- between shards).
--
-- The hash k of a connection has its `user`; in `nodes` the nodes it is registered for: one, or two while it moves; in its
-- directory, the shard of its id, `dir` is its owner and `shards` lists the other shards; in the shard of its user, `home`
-- says that it counts among the user's connections, and `seq` is the read range of private messages. The hash kc has its
-- channels here with their read ranges, and the set nk of each node its connections, for reaping and comparing.
--
-- Atomic, and why. The nodes of a connection, its channels and the presence they cause change together. The last release
-- unregisters it in the same script: otherwise a claim could reserve it between the two steps, and be left with a
-- connection whose channels are gone. A claim changes the owner and moves the registration in one script: otherwise a
-- reaper in between would unregister a connection that was just claimed. `release` for one node never affects
-- another, so a late or repeated release is harmless.
--
-- Ending. A connection in more channels than one script may leave is unregistered in steps. The first step marks it as
-- `ending` and removes its nodes: nobody can claim it, and its id cannot be used again before it has ended. The caller
-- repeats the call; the set ENDING lets any heartbeat and any reaper continue if the caller dies. One script for all
-- channels would stop Redis for all nodes; steps without the mark would let a claim take half a connection.
-- Uses: 10_script, 30_outbox, 40_channels, 41_users, 42_presence

local function without(nodes, node)
  local others = {}
  for each in nodes:gmatch('%S+') do
    if each ~= node then others[#others + 1] = each end
  end
  return table.concat(others, ' ')
end

local function is_registered_for(conn_id, node)
  local nodes = call('HGET', key('k', conn_id), 'nodes')
  return nodes and without(nodes, node) ~= nodes
end

-- Make a node the owner of a connection, with the list of other shards that register it.
local function set_owner(conn_id, node, shards)
  local user = ARGV[9] and call('HGET', key('k', conn_id), 'user')
  local is_new = call('HSET', key('k', conn_id), 'dir', node, 'shards', shards) == 2
  if user and is_new then outbox.keep('opened', user, redis.sha1hex(conn_id)) end
end

-- Add shards to the list of a connection, or remove them; false if another node owns it.
local function update_shards(conn_id, node, more, less)
  local known = call('HMGET', key('k', conn_id), 'dir', 'shards')
  if known[1] ~= node then return false end
  local shards = known[2] or ''
  for _, shard in ipairs(less) do shards = without(shards, shard) end
  for _, shard in ipairs(more) do shards = without(shards, shard) .. ' ' .. shard end
  call('HSET', key('k', conn_id), 'shards', shards)
  return true
end

-- The read range of a connection that joins now: the current offset, and the offset the application has named, if any.
local function range_from_now(named) return whole(head()) .. (named and ' ' .. whole(named) or '') end

-- Register a connection with its user. `read_range` is that of private messages; false keeps the stored one, or means from
-- now on.
local function register_user(conn_id, user, read_range)
  local is_new = call('HSETNX', key('k', conn_id), 'home', '1') == 1
  if is_new or read_range then call('HSET', key('k', conn_id), 'seq', read_range or range_from_now(false)) end
  if is_new and count_connection('u', user, 1) == 1 then outbox.keep('online', user) end
end

-- Join channels, given as {name, settings if it is new, read range as for `register_user`}; return how many were joined
-- before the limits were reached. The caller repeats the others.
local function join(conn_id, user, is_always, channels, bounds)
  -- Before the presence events of this call: a new channel reaches back to where its members join.
  local start = head()
  for number, wanted in ipairs(channels) do
    local name, settings, read_range = wanted[1], wanted[2], wanted[3]
    if call('HEXISTS', key('kc', conn_id), name) == 0 then
      open_channel(name, settings, bounds, start, user)
      change_membership(name, conn_id, user, is_always, 1, read_range or whole(start))
    elseif read_range then
      call('HSET', key('kc', conn_id), name, read_range)
    end
    if is_out_of_budget() then return number end
  end
  return #channels
end

-- Leave channels; return whether all were left. A repeated call skips those that are left already.
local function leave(conn_id, channels)
  local known = call('HMGET', key('k', conn_id), 'user', 'always')
  for number, channel in ipairs(channels) do
    if call('HEXISTS', key('kc', conn_id), channel) == 1 then change_membership(channel, conn_id, known[1], known[2] == '1', -1) end
    if is_out_of_budget() then return number == #channels end
  end
  return true
end

-- Most channels left in one step, and most fields answered at once; more are read page by page.
local MAX_LEFT, MAX_PAGE = 100, 1000

-- The channels of a connection, or some of very many.
local function some_channels_of(conn_id)
  local kc = key('kc', conn_id)
  local channels = call('HLEN', kc) <= MAX_LEFT and call('HKEYS', kc) or call('HRANDFIELD', kc, MAX_LEFT)
  table.sort(channels)
  return channels
end

local ENDING = PREFIX .. 'ending'

local function is_ending(conn_id) return call('HEXISTS', key('k', conn_id), 'ending') == 1 end

-- Unregister a connection; return whether that is done. If not, it is marked as ending and the caller repeats the call.
local function unregister(conn_id)
  local k = key('k', conn_id)
  local known = call('HMGET', k, 'user', 'home', 'nodes', 'dir')
  for node in (known[3] or ''):gmatch('%S+') do call('SREM', key('nk', node), conn_id) end
  if not leave(conn_id, some_channels_of(conn_id)) or call('EXISTS', key('kc', conn_id)) == 1 then
    call('HDEL', k, 'nodes')
    call('HSET', k, 'ending', '1')
    call('SADD', ENDING, conn_id)
    return false
  end
  call('DEL', k)
  call('SREM', ENDING, conn_id)
  if known[4] then outbox.keep('closed', known[1], redis.sha1hex(conn_id)) end
  if known[2] and count_connection('u', known[1], -1) <= 0 then outbox.keep('offline', known[1]) end
  return true
end

-- Continue to unregister connections that are ending, within the limits: their callers may have died. Return whether none is
-- left.
local function continue_ending()
  for _, conn_id in ipairs(call('SRANDMEMBER', ENDING, MAX_LEFT)) do
    while not unregister(conn_id) do
      if is_out_of_budget() then return false end
    end
    if is_out_of_budget() then break end
  end
  return call('EXISTS', ENDING) == 0
end

-- Register a connection for a node; false if a former connection with the same id is not unregistered yet.
local function register(conn_id, node, user, client)
  local known = call('HMGET', key('k', conn_id), 'nodes', 'user', 'ending', 'protocol')
  if known[3] or known[2] and (known[2] ~= user or known[4] ~= client.protocol) then
    -- The id is used again before the former connection has ended here, or this shard missed its end.
    if not unregister(conn_id) then return false end
    known[1] = false
  end
  local others = without(known[1] or '', node)
  call('HSET', key('k', conn_id), 'nodes', others == '' and node or others .. ' ' .. node, 'user', user, 'protocol',
    client.protocol, 'always', client.always and '1' or '0')
  call('SADD', key('nk', node), conn_id)
  return true
end

-- Release a connection for one node; return whether that is done.
local function release(conn_id, node)
  if is_ending(conn_id) then return unregister(conn_id) end
  local nodes = call('HGET', key('k', conn_id), 'nodes')
  local others = nodes and without(nodes, node)
  if nodes and others == '' then return unregister(conn_id) end
  if nodes and others ~= nodes then call('HSET', key('k', conn_id), 'nodes', others) end
  call('SREM', key('nk', node), conn_id)
  return true
end

-- The fields and values of a hash, or false if the caller has to read it page by page.
local function read_small(name) return call('HLEN', name) <= MAX_PAGE and read_all('HGETALL', name) end

-- The user's channels here, or false, likewise.
local function channels_of_user(user)
  local uc = key('uc', user)
  return call('HLEN', uc) <= MAX_PAGE and read_all('HKEYS', uc)
end

-- Register a connection for one more node: {read range of private messages, channels}, or false if it is not registered.
local function reserve(conn_id, node)
  local known = call('HMGET', key('k', conn_id), 'user', 'protocol', 'always', 'seq', 'ending')
  if not known[1] or known[5] then return false end
  register(conn_id, node, known[1], { protocol = known[2], always = known[3] == '1' })
  return { known[4] or '', read_small(key('kc', conn_id)) }
end

-- Register it for one node in place of another.
local function move(conn_id, from, to)
  local held = reserve(conn_id, to)
  if held and from ~= to then
    -- It has come back before the reaping of its dead node reached it (`operations.reap`).
    local comes_back = call('HEXISTS', key('n', from), 'reaped') == 1 and call('SISMEMBER', key('nk', from), conn_id) == 1
    if comes_back then call('HINCRBY', key('n', from), 'reaped', -1) end
    release(conn_id, from)
  end
  return held
end

local function read_user(user)
  local known = call('HMGET', key('u', user), 'id', 'public', 'active', 'connections')
  if not known[1] then return false end
  return { user, known[1], known[2] or '', known[3], known[4], read_all('HGETALL', key('us', user)), channels_of_user(user) }
end

local function changed_user(user, changed)
  local flat = {}
  for _, pair in ipairs(changed) do
    flat[#flat + 1] = pair[1]
    flat[#flat + 1] = pair[2]
  end
  local copies = call('HGET', key('u', user), 'copies') or ''
  return { read_user(user), flat, head(), copies ~= '' and state_to_copy(user) or '', copies,
    call('EXISTS', key('uv', user)) }
end
