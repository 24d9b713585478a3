-- Operations on connections: their registration, their channels and their owners, and what nodes ask about them.
-- Uses: 10_script, 20_records, 41_users, 50_connections, 60_table

-- Join channels; return {the offset of the join, how many were joined}.
local function join_now(a)
  local joined, read_range = whole(head()), range_from_now(a.since)
  for _, wanted in ipairs(a.channels) do wanted[3] = read_range end
  local count = join(a.conn_id, a.user, a.client.always, a.channels, a.bounds)
  persist_copy(a.user)
  if count > 0 then call(PUBLISH, key('#n', a.node), 'mark 0 ' .. joined) end
  return { joined, count }
end

-- Register a new connection in this shard. `dir`: this is the shard of its id (its directory), which also stores the owner.
-- `home`: this is the shard of its user. One shard may be both. At its home it also joins channels; the answer is {the changed
-- user, the offset of the join, how many were joined}.
function operations.connect(a)
  if is_ending(a.conn_id) and not unregister(a.conn_id) then return AGAIN end
  if a.dir and call('HEXISTS', key('k', a.conn_id), 'dir') == 1 then return 'taken' end
  if not a.home then
    if not register(a.conn_id, a.node, a.user, a.client) then return AGAIN end
    set_owner(a.conn_id, a.node, a.shards)
    return 'reserved'
  end
  if not continue_announcing(a.user) then return AGAIN end
  local fresh = is_home(a.user) and {} or a.update.fresh
  if a.update.first then replace_state(a.user, a.update) end
  local broken = exceeded_limit(a.user, a.bounds, fresh, a.update.values)
  if broken then return broken end
  if not register(a.conn_id, a.node, a.user, a.client) then return AGAIN end
  if a.dir then set_owner(a.conn_id, a.node, a.shards) end
  open_user(a.user, fresh, a.bounds)
  register_user(a.conn_id, a.user, range_from_now(a.since))
  local changed = changed_user(a.user, update_user(a.user, a.update))
  -- The limits also end an announcement, which has to be complete first.
  if is_out_of_budget() then a.channels = {} end
  return { changed, unpack(join_now(a)) }
end

-- Join channels of a registered connection (`join_now`). `known` says that this shard is the directory
-- of the connection or the shard of its user. There the connection must be registered already. If it is not, the
-- connection has ended or moved, and this call must not register it again.
function operations.join(a)
  if a.known and not is_registered_for(a.conn_id, a.node) then return 'gone' end
  if not a.known and not register(a.conn_id, a.node, a.user, a.client) then return AGAIN end
  if not continue_announcing(a.user) then return AGAIN end
  apply_copy(ARGV[7])
  return join_now(a)
end

-- Leave channels; return 0 if the connection has no channel left here, and this is the shard of neither its id nor its
-- user. In that case the caller first removes this shard from the directory's list, and then unregisters the connection
-- here. Until then the connection stays registered.
function operations.leave(a)
  if not is_registered_for(a.conn_id, a.node) then return 'gone' end
  if not leave(a.conn_id, a.channels) then return AGAIN end
  return (a.known or call('EXISTS', key('kc', a.conn_id)) == 1) and 1 or 0
end

function operations.disconnect(a)
  local dir = call('HGET', key('k', a.conn_id), 'dir')
  if not release(a.conn_id, a.node) then return AGAIN end
  return dir and dir ~= a.node and 'gone' or 'done'
end

-- Register a connection with exactly these channels; return {how many of them it has joined, whether it has left all
-- other channels}, or 0 if another node owns it.
function operations.restore(a)
  local dir = call('HGET', key('k', a.conn_id), 'dir')
  if a.dir and dir and dir ~= a.node then return 0 end
  if not register(a.conn_id, a.node, a.user, a.client) then return AGAIN end
  if not continue_announcing(a.user) then return AGAIN end
  if a.dir then set_owner(a.conn_id, a.node, a.shards) end
  if a.home then
    open_user(a.user, {}, a.bounds)
    register_user(a.conn_id, a.user, a.private)
  end
  apply_copy(ARGV[7])
  local wanted, others = {}, {}
  for _, channel in ipairs(a.channels) do wanted[channel[1]] = true end
  local is_small = a.whole and call('HLEN', key('kc', a.conn_id)) <= MAX_LEFT
  for _, channel in ipairs(is_small and some_channels_of(a.conn_id) or {}) do
    if not wanted[channel] then others[#others + 1] = channel end
  end
  local is_left = leave(a.conn_id, others) and is_small
  local count = join(a.conn_id, a.user, a.client.always, a.channels, a.bounds)
  persist_copy(a.user)
  return { count, is_left and 1 or 0 }
end

-- Make the calling node the owner of a connection. `sure` has the shards in which the node has reserved the connection.
-- The owner changes only if `sure` includes every shard that the directory lists. Return {former owner, user, protocol of
-- the client, whether it always receives presence events, listed shards, registration}. If `sure` is false or lacks a
-- listed shard, nothing has changed, and the answer has no registration. The list is compared and the owner changed in
-- one step, because the former owner may join a channel in a further shard at any time.
function operations.claim(a)
  local known = call('HMGET', key('k', a.conn_id), 'dir', 'user', 'protocol', 'always', 'shards', 'ending')
  if not known[1] or known[6] then return false end
  -- With `orphan` the call claims the connection only if its owner has died. An owner that still has a subscription
  -- lives. It must first be asked to release the connection.
  if a.orphan and call(PUBLISH, key('#n', known[1]), 'there 0') > 0 then return 'held' end
  local answer = { known[1], known[2], known[3], known[4], known[5] or '' }
  if not a.sure then return answer end
  local sure = set_of(a.sure)
  for shard in answer[5]:gmatch('%S+') do
    if not sure[shard] then return answer end
  end
  if known[1] ~= a.node then
    call('HSET', key('k', a.conn_id), 'dir', a.node)
    call(PUBLISH, key('#n', known[1]), 'yielded ' .. a.conn_id)
  end
  answer[6] = move(a.conn_id, known[1], a.node)
  return answer
end

-- Register a connection for a node that is about to claim it. The node calls this in every shard that the directory
-- lists, before `claim` changes the owner. If this call fails, the owner has not changed.
function operations.reserve(a) return reserve(a.conn_id, a.node) end

-- Remove the former owner's registration of a connection. The new owner calls this in every shard that the directory
-- lists, after `claim` has changed the owner.
function operations.follow(a) return move(a.conn_id, a.from, a.node) end

-- Add shards to the list in the directory, or remove them. The caller adds a shard before that shard registers the
-- connection, and removes a shard before that shard unregisters the connection.
function operations.spread(a) return update_shards(a.conn_id, a.node, a.more, a.less) and 1 or 'gone' end

-- Send a command to a node; return how many nodes have received it.
function operations.ask_node(a)
  return call(PUBLISH, key('#n', a.to), 'ask ' .. a.node .. ' ' .. a.token .. ' ' .. ARGV[7])
end

-- Let a node say that it has received what was published before; return how many nodes are asked.
function operations.echo(a)
  return call(PUBLISH, key('#n', a.to), 'echo ' .. a.node .. ' ' .. a.token)
end

-- Send a command to the owner of a connection; return how many nodes have received it, or -1 if no node owns the
-- connection.
function operations.ask(a)
  local node, ending = unpack(call('HMGET', key('k', a.conn_id), 'dir', 'ending'))
  if not node or ending then return -1 end
  a.to = node
  return operations.ask_node(a)
end

function operations.reply(a) call(PUBLISH, key('#n', a.node), 'reply ' .. a.token .. ' ' .. ARGV[7]) end
