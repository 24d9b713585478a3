-- Connections as this shard counts them, and the nodes that hold them. The hash k of a connection has its user, and in `nodes`
-- who holds it: mostly one, two while it moves; when none is left it is counted out. In the shard of the connection's id, `dir`
-- is the one node that speaks for it. In the user's shard, `home` says that the user's connections are counted with it.

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

-- Let a node speak for a connection that these other shards count as well.
local function set_owner(conn_id, node, shards) call('HSET', key('k', conn_id), 'dir', node, 'shards', shards) end

-- Note that other shards are about to count a connection, or no longer do; false: another node speaks for it.
local function update_shards(conn_id, node, more, less)
  local known = call('HMGET', key('k', conn_id), 'dir', 'shards')
  if known[1] ~= node then return false end
  local shards = known[2] or ''
  for _, shard in ipairs(less) do shards = without(shards, shard) end
  for _, shard in ipairs(more) do shards = without(shards, shard) .. ' ' .. shard end
  call('HSET', key('k', conn_id), 'shards', shards)
  return true
end

-- From where a connection that joins now may read: its number here, and the one that the application has named, if it has.
local function range_from_now(named) return whole(head()) .. (named and ' ' .. whole(named) or '') end

-- `read_range`: from where it may read private messages; false: from where it is noted, or from now on.
local function register_user(conn_id, user, read_range)
  local is_new = call('HSETNX', key('k', conn_id), 'home', '1') == 1
  if is_new or read_range then call('HSET', key('k', conn_id), 'seq', read_range or range_from_now(false)) end
  if is_new then count_connection('u', user, 1) end
end

-- Of each channel: its name, the settings it gets if it is new, and from where it may be read, as for `register_user`. Returns
-- how many of them are joined; the rest is for a later call.
local function join(conn_id, user, is_seed, channels, bounds)
  local now = range_from_now(false)
  for number, wanted in ipairs(channels) do
    local name, settings, read_range = wanted[1], wanted[2], wanted[3]
    if call('HEXISTS', key('kc', conn_id), name) == 0 then
      open_channel(name, settings, bounds)
      change_membership(name, conn_id, user, is_seed, 1, read_range or now)
    elseif read_range then
      call('HSET', key('kc', conn_id), name, read_range)
    end
    if is_out_of_budget() then return number end
  end
  return #channels
end

-- Leave channels; whether all are left.
local function leave(conn_id, channels)
  local known = call('HMGET', key('k', conn_id), 'user', 'seed')
  for number, channel in ipairs(channels) do
    if call('HEXISTS', key('kc', conn_id), channel) == 1 then change_membership(channel, conn_id, known[1], known[2] == '1', -1) end
    if is_out_of_budget() then return number == #channels end
  end
  return true
end

-- Channels left in one step at most, and answered without being asked for page by page.
local MAX_LEFT, MAX_PAGE = 100, 1000

-- Some channels of a connection, mostly all.
local function some_channels_of(conn_id)
  local kc = key('kc', conn_id)
  local channels = call('HLEN', kc) <= MAX_LEFT and call('HKEYS', kc) or call('HRANDFIELD', kc, MAX_LEFT)
  table.sort(channels)
  return channels
end

local ENDING = PREFIX .. 'ending'

local function is_ending(conn_id) return call('HEXISTS', key('k', conn_id), 'ending') == 1 end

-- Count a connection out; whether that is done. One in very many channels is ending first: nobody holds it any more, nobody can
-- claim it, and whoever calls this goes on with it.
local function unregister(conn_id)
  local k = key('k', conn_id)
  local known = call('HMGET', k, 'user', 'home', 'nodes')
  for node in (known[3] or ''):gmatch('%S+') do call('SREM', key('nk', node), conn_id) end
  if not leave(conn_id, some_channels_of(conn_id)) or call('EXISTS', key('kc', conn_id)) == 1 then
    call('HDEL', k, 'nodes')
    call('HSET', k, 'ending', '1')
    call('SADD', ENDING, conn_id)
    return false
  end
  call('DEL', k)
  call('SREM', ENDING, conn_id)
  if known[2] then count_connection('u', known[1], -1) end
  return true
end

-- Go on with connections that are ending for as long as a slice lasts, as the node that began may have died; whether none is left.
local function continue_ending()
  for _, conn_id in ipairs(call('SRANDMEMBER', ENDING, MAX_LEFT)) do
    while not unregister(conn_id) do
      if is_out_of_budget() then return false end
    end
    if is_out_of_budget() then break end
  end
  return call('EXISTS', ENDING) == 0
end

-- Let a node hold a connection; false: what the id was before is not counted out yet.
local function register(conn_id, node, user, is_seed)
  local known = call('HMGET', key('k', conn_id), 'nodes', 'user', 'ending')
  if known[3] or known[2] and known[2] ~= user then
    -- An id that is used again before it has ended, or whose end this shard was not told.
    if not unregister(conn_id) then return false end
    known[1] = false
  end
  local others = without(known[1] or '', node)
  call('HSET', key('k', conn_id), 'nodes', others == '' and node or others .. ' ' .. node, 'user', user, 'seed',
    is_seed and '1' or '')
  call('SADD', key('nk', node), conn_id)
  return true
end

-- One node holds a connection no longer; whether that is done.
local function release(conn_id, node)
  if is_ending(conn_id) then return unregister(conn_id) end
  local nodes = call('HGET', key('k', conn_id), 'nodes')
  local others = nodes and without(nodes, node)
  if nodes and others == '' then return unregister(conn_id) end
  if nodes and others ~= nodes then call('HSET', key('k', conn_id), 'nodes', others) end
  call('SREM', key('nk', node), conn_id)
  return true
end

-- Fields and values of a hash, or false where they are to be asked for page by page.
local function read_small(name) return call('HLEN', name) <= MAX_PAGE and read_all('HGETALL', name) end

-- A user's channels here, likewise.
local function channels_of_user(user)
  local uc = key('uc', user)
  return call('HLEN', uc) <= MAX_PAGE and read_all('HKEYS', uc)
end

-- One more node holds a connection: {from where it may read private messages, channels}, or nothing where it is not counted.
local function reserve(conn_id, node)
  local known = call('HMGET', key('k', conn_id), 'user', 'seed', 'seq', 'ending')
  if not known[1] or known[4] then return false end
  register(conn_id, node, known[1], known[2] == '1')
  return { known[3] or '', read_small(key('kc', conn_id)) }
end

-- The same, in place of another node.
local function move(conn_id, from, to)
  local held = reserve(conn_id, to)
  if held and from ~= to then release(conn_id, from) end
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
