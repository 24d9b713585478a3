-- Operations on nodes: leases, dead nodes, and what has been idle for too long.

-- Renew the lease; return {how many connections are registered for the calling node, nodes whose lease has ended,
-- whether the lease of the calling node had ended}.
function operations.beat(a)
  local lapsed = call('EXISTS', key('nl', a.node)) == 0
  if lapsed then call('HDEL', key('n', a.node), 'reaped') end
  call('SET', key('nl', a.node), '1', 'PX', whole(a.lease_ms))
  call('HSET', key('n', a.node), 'label', a.label, 'connections', whole(a.connections), 'beat', whole(now_ms),
    'stopped', '0')
  call('SADD', PREFIX .. 'nodes', a.node)
  local dead = {}
  for _, node in ipairs(call('SMEMBERS', PREFIX .. 'nodes')) do
    if call('EXISTS', key('nl', node)) == 0 then dead[#dead + 1] = node end
  end
  publish_mark(a)
  if continue_ending() then continue_others() end
  outbox.adopt()
  return { call('SCARD', key('nk', a.node)), dead, lapsed and 1 or 0 }
end

-- Say that a node was stopped, before its lease ends. Its clients come back to others until then.
function operations.stop(a)
  if call('EXISTS', key('nl', a.node)) == 1 then call('HSET', key('n', a.node), 'stopped', '1') end
end

-- Whether a node was stopped.
function operations.was_stopped(a) return call('HGET', key('n', a.node), 'stopped') or '0' end

-- Release some connections of a dead node. Together these connections have about `count` channels. Return how many
-- connections are left; or, once, when none is left: {label, how many were released here, time of the last heartbeat, how
-- many connections it had then, whether it was stopped}. The lease is checked in each step, so that a node that has come back loses
-- no more connections.
function operations.reap(a)
  if call('EXISTS', key('nl', a.dead)) == 1 then return 0 end
  local room = a.count
  -- How many will have been released: `move` takes off those that another node claims meanwhile.
  call('HSETNX', key('n', a.dead), 'reaped', call('SCARD', key('nk', a.dead)))
  for _, conn_id in ipairs(continue_ending() and call('SRANDMEMBER', key('nk', a.dead), a.count) or {}) do
    room = room - 1 - call('HLEN', key('kc', conn_id))
    if not release(conn_id, a.dead) or room <= 0 or is_out_of_budget() then break end
  end
  local left = call('SCARD', key('nk', a.dead)) + call('SCARD', ENDING)
  if left == 0 then
    local known = call('HMGET', key('n', a.dead), 'label', 'reaped', 'beat', 'connections', 'stopped')
    known[5] = known[5] or '0'
    local is_first = call('SREM', PREFIX .. 'nodes', a.dead) == 1
    call('DEL', key('n', a.dead))
    if is_first and known[1] then return known end
  end
  return left
end

-- All nodes: {id, label, connections, time of the last heartbeat, whether the lease runs}.
function operations.nodes()
  local found = {}
  for _, node in ipairs(call('SMEMBERS', PREFIX .. 'nodes')) do
    local known = call('HMGET', key('n', node), 'label', 'connections', 'beat')
    if known[1] then
      found[#found + 1] = { node, known[1], known[2], known[3], call('EXISTS', key('nl', node)) }
    end
  end
  return found
end

local function forget(kind, name)
  local keys = { log_keys(kind, name) }
  local more = kind == 'c' and { 'cu', 'cm', 'hr', 'ho', 'hp', 'hq' } or { 'us', 'uc', 'uv' }
  for _, each in ipairs(payload_keys(kind, name)) do keys[#keys + 1] = each end
  for _, other in ipairs(more) do keys[#keys + 1] = key(other, name) end
  -- UNLINK frees the memory in another thread; DEL would stop Redis for that time.
  call('UNLINK', unpack(keys))
  if kind == 'u' then call('SREM', ANNOUNCING, name) end
  call('SREM', PREFIX .. 'known:' .. kind, name)
  call('ZREM', PREFIX .. 'idle:' .. kind, name)
end

-- Forget some channels and users that were idle for too long; return how many were forgotten.
function operations.collect(a)
  local dropped = 0
  for _, rule in ipairs(a.rules) do
    local names = call('ZRANGEBYSCORE', PREFIX .. 'idle:' .. rule[1], '-inf', '(' .. whole(now_ms - rule[2]), 'LIMIT',
      0, a.count)
    for _, name in ipairs(names) do
      forget(rule[1], name)
      dropped = dropped + 1
      if is_out_of_budget() then return dropped end
    end
  end
  return dropped
end
