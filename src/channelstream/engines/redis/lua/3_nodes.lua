-- Connections, and the nodes that hold them.

local function register(conn_id, node, user, is_seed)
  call('HSET', key('k', conn_id), 'node', node, 'user', user, 'seed', is_seed and '1' or '', 'seq', whole(head()))
  call('SADD', key('nk', node), conn_id)
  touch('u', user, call('HINCRBY', key('u', user), 'connections', 1))
end

local function join(conn_id, user, is_seed, channels, bounds)
  local joined = head()
  for _, wanted in ipairs(channels) do
    if call('HEXISTS', key('kc', conn_id), wanted[1]) == 0 then
      open_channel(wanted[1], wanted[2], bounds)
      count(wanted[1], conn_id, user, is_seed, 1, joined)
    end
  end
  return joined
end

local function leave(conn_id, user, is_seed, channels)
  for _, channel in ipairs(channels) do
    if call('HEXISTS', key('kc', conn_id), channel) == 1 then count(channel, conn_id, user, is_seed, -1) end
  end
end

local function unregister(conn_id)
  local known = call('HMGET', key('k', conn_id), 'node', 'user', 'seed')
  if not known[1] then return end
  local channels = call('HKEYS', key('kc', conn_id))
  table.sort(channels)
  leave(conn_id, known[2], known[3] == '1', channels)
  call('DEL', key('k', conn_id), key('kc', conn_id))
  call('SREM', key('nk', known[1]), conn_id)
  touch('u', known[2], call('HINCRBY', key('u', known[2]), 'connections', -1))
end

local function is_held_by(conn_id, node) return call('HGET', key('k', conn_id), 'node') == node end

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
  return { read_user(user), flat, head() }
end
