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

local function is_held_by(conn_id, node)
  local nodes = call('HGET', key('k', conn_id), 'nodes')
  return nodes and without(nodes, node) ~= nodes
end

-- Let a node speak for a connection whose channels are known to shards of these epochs.
local function speak_for(conn_id, node, epochs) call('HSET', key('k', conn_id), 'dir', node, 'epochs', epochs) end

-- From where a connection that joins now may read: its number here, and the one that the application has named, if it has.
local function reach_from_now(named) return whole(head()) .. (named and ' ' .. whole(named) or '') end

-- `reach`: from where it may read private messages; false: from where it is noted, or from now on.
local function count_user_in(conn_id, user, reach)
  local is_new = call('HSETNX', key('k', conn_id), 'home', '1') == 1
  if is_new or reach then call('HSET', key('k', conn_id), 'seq', reach or reach_from_now(false)) end
  if is_new then count_connection('u', user, 1) end
end

-- Of each channel: its name, the settings it gets if it is new, and from where it may be read, as for `count_user_in`.
local function join(conn_id, user, is_seed, channels, bounds)
  local now = reach_from_now(false)
  for _, wanted in ipairs(channels) do
    local name, settings, reach = wanted[1], wanted[2], wanted[3]
    if call('HEXISTS', key('kc', conn_id), name) == 0 then
      open_channel(name, settings, bounds)
      count(name, conn_id, user, is_seed, 1, reach or now)
    elseif reach then
      call('HSET', key('kc', conn_id), name, reach)
    end
  end
end

local function leave(conn_id, channels)
  local known = call('HMGET', key('k', conn_id), 'user', 'seed')
  for _, channel in ipairs(channels) do
    if call('HEXISTS', key('kc', conn_id), channel) == 1 then count(channel, conn_id, known[1], known[2] == '1', -1) end
  end
end

local function channels_of(conn_id)
  local channels = call('HKEYS', key('kc', conn_id))
  table.sort(channels)
  return channels
end

local function unregister(conn_id)
  local known = call('HMGET', key('k', conn_id), 'user', 'home', 'nodes')
  leave(conn_id, channels_of(conn_id))
  for node in known[3]:gmatch('%S+') do call('SREM', key('nk', node), conn_id) end
  call('DEL', key('k', conn_id), key('kc', conn_id))
  if known[2] then count_connection('u', known[1], -1) end
end

local function hold(conn_id, node, user, is_seed)
  local known = call('HMGET', key('k', conn_id), 'nodes', 'user')
  if known[2] and known[2] ~= user then
    -- An id that is used again, and whose end this shard was not told.
    unregister(conn_id)
    known[1] = false
  end
  local others = without(known[1] or '', node)
  call('HSET', key('k', conn_id), 'nodes', others == '' and node or others .. ' ' .. node, 'user', user, 'seed',
    is_seed and '1' or '')
  call('SADD', key('nk', node), conn_id)
end

-- One node holds a connection no longer.
local function release(conn_id, node)
  if not is_held_by(conn_id, node) then return call('SREM', key('nk', node), conn_id) end
  local others = without(call('HGET', key('k', conn_id), 'nodes'), node)
  if others == '' then
    unregister(conn_id)
  else
    call('HSET', key('k', conn_id), 'nodes', others)
    call('SREM', key('nk', node), conn_id)
  end
end

-- One node holds a connection in place of another: {from where it may read private messages, channels}, or nothing where it is not counted.
local function move(conn_id, from, to)
  local known = call('HMGET', key('k', conn_id), 'user', 'seed', 'seq')
  if not known[1] then return false end
  hold(conn_id, to, known[1], known[2] == '1')
  if from ~= to then release(conn_id, from) end
  return { known[3] or '', call('HGETALL', key('kc', conn_id)) }
end

local function read_user(user)
  local known = call('HMGET', key('u', user), 'id', 'public', 'active', 'connections')
  if not known[1] then return false end
  return { user, known[1], known[2] or '', known[3], known[4], call('HGETALL', key('us', user)),
    call('HKEYS', key('uc', user)) }
end

local function changed_user(user, changed)
  local flat = {}
  for _, pair in ipairs(changed) do
    flat[#flat + 1] = pair[1]
    flat[#flat + 1] = pair[2]
  end
  local copies = call('HGET', key('u', user), 'copies') or ''
  return { read_user(user), flat, head(), copies ~= '' and state_to_copy(user) or '', copies }
end
