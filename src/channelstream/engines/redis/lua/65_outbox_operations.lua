-- Operations on the outbox of webhooks.
-- Uses: 10_script, 30_outbox, 60_table

-- Keep facts of an application that the node has made: their stored forms are one text, and `sizes` has the length of each.
function operations.append_facts(a)
  outbox.most = a.most
  local at = 1
  for _, size in ipairs(a.sizes) do
    outbox.put(a.app, ARGV[7]:sub(at, at + size - 1))
    at = at + size
  end
  return #a.sizes
end

-- Set the cursors of all consumers, and drop the facts that all consumers of their application have passed, which are those up
-- to a number; of an application without consumers all of them. Return 0 if a node with a greater token holds the lease, or has
-- held it.
function operations.settle(a)
  if a.token < tonumber(call('HGET', outbox.about, 'token') or '0') then return 0 end
  call('HSET', outbox.about, 'token', whole(a.token))
  outbox.set_cursors(a.cursors)
  for _, app in ipairs(outbox.recount()) do
    if outbox.drop_through(app, a.through[app] or '+') then return AGAIN end
    -- The sender sets cursors as long as it runs.
    call('PEXPIRE', outbox.facts(app), whole(a.kept_ms))
  end
  for _, each in ipairs({ outbox.about, outbox.cursors }) do call('PEXPIRE', each, whole(a.kept_ms)) end
  return 1
end

-- Hold the lease; return its token, or 0 if another node holds it.
function operations.hold(a)
  local node, token = unpack(call('HMGET', outbox.lease, 'node', 'token'))
  if node and node ~= a.node then return 0 end
  if not node then
    token = whole(math.max(tonumber(call('HGET', outbox.about, 'granted') or '0') + 1, time_ms))
    call('HSET', outbox.about, 'granted', token)
    call('HSET', outbox.lease, 'node', a.node, 'token', token)
  end
  call('PEXPIRE', outbox.lease, whole(a.ttl_ms))
  return token
end

function operations.release_lease(a)
  if call('HGET', outbox.lease, 'node') == a.node then call('DEL', outbox.lease) end
end
