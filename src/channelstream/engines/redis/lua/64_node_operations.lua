-- Operations on nodes: which log they find, leases, dead nodes, and what has been idle for too long.
-- Uses: 10_script, 20_records, 30_outbox, 41_users, 50_connections, 60_table

-- Whether the data came here from a master that has given the slot away, and nothing of it was lost here since. The caller
-- knows that the former master lives and has no key of the slot (`ShardAddress.has_moved`), and how long this server has
-- run. It must have run at the last heartbeat of any node, when the former master had the slot: one that was started or
-- promoted later may lack keys.
local function has_moved_here(a, run)
  if run ~= a.moved_from then return false end
  for _, node in ipairs(call('SMEMBERS', PREFIX .. 'nodes')) do
    local beat = tonumber(call('HGET', key('n', node), 'beat') or '0')
    -- A heartbeat in the future, from before the clock was set back, proves nothing.
    if beat <= now_ms and now_ms - a.up_ms < beat then return true end
  end
  return false
end

function operations.hello(a)
  local known = call('HMGET', LOG, 'epoch', 'run', 'seq', 'shard', 'layout', 'begun')
  if known[1] and known[5] ~= LAYOUT then return redis.error_reply('LAYOUT ' .. (known[5] or '1')) end
  if known[4] and known[4] ~= a.shard then return redis.error_reply('SHARD this is shard ' .. known[4]) end
  local offset = tonumber(known[3] or '0')
  local epoch, run, begun_ms = known[1], known[2], tonumber(known[6] or '0')
  if epoch and run ~= a.run and has_moved_here(a, run) then
    run = a.run
    call('HSET', LOG, 'run', run)
  end
  if not epoch or run ~= a.run or a.distrust or (epoch == a.known_epoch and offset < a.known_seq) then
    -- This is another server process, or its log has lost the newest events, or the node asks for a new epoch
    -- (`ShardSubscriber._on_gap`). In all three cases the log may lack acknowledged events, and would assign their offsets to
    -- other events. So a new epoch begins, which makes all older positions invalid. The offset continues from the
    -- highest offset that is known.
    epoch, offset, begun_ms = a.candidate, math.max(offset, a.known_seq), now_ms
    call('HSET', LOG, 'epoch', epoch, 'run', a.run, 'seq', whole(offset), 'shard', a.shard,
      'layout', LAYOUT, 'begun', whole(now_ms))
    call(PUBLISH, PREFIX .. '#all', 'epoch ' .. epoch)
    outbox.renumber()
  end
  return { epoch, whole(offset), whole(now_ms - begun_ms) }
end

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
