-- The operations that the engine calls, by name; `a` has the arguments that the engine has packed.
--
-- Terms. This script runs in one shard of the log, and knows no other shard. The directory of a connection is the shard
-- of its id: it stores which node owns the connection, and lists the other shards that register the connection. The
-- home of a user is the shard of the user's name: it has the user's state, of which other shards have copies. A node
-- that is about to claim a connection (to become its owner) first reserves it: each shard then registers the connection
-- for this node as well as for the owner. Each node renews a lease. When the lease of a node has ended, other nodes
-- reap that node: they unregister its connections.
--
-- Limits. Each call is one atomic step, within the limits of `1_log.lua`. If a call cannot finish within these limits, its
-- answer tells the caller how to go on. There are three kinds of such an answer:
--   AGAIN: the caller repeats the same call. An operation returns AGAIN in two cases: an earlier call, perhaps of another
--     operation, has left work unfinished, and this call could only continue that work; or this call has done only a part of
--     its own work. The repeated call skips the finished part. Before the next call the caller waits until its node has
--     received what this step published (`ShardClient.step`).
--   A count: the operation has done this many items of its list. The caller sends the others.
--   An offset or a cursor: the caller continues after it.
-- Between two calls Redis serves other clients. So each item of a list is atomic, but the list is not.
--
-- Refusals. Before an operation runs, the code at the end of this file may refuse the call for two reasons. LATE: the
-- deadline of the call has passed, so its caller has given it up. A call that has failed therefore never runs later. EPOCH:
-- the log is not the one that the caller knows. A node therefore never writes into a log whose offsets it would misread. A
-- payload that came with a refused call is deleted. Both checks are in the script: a failover could come between an earlier
-- check and the script.
local AGAIN = 'again'

local operations = {}

-- The operations that run even when Redis is full: they free memory, or keep nodes and their connections alive.
local FREEING = set_of({ 'leave', 'disconnect', 'reap', 'collect', 'beat', 'claim', 'reserve', 'follow', 'spread', 'settle',
  'hold', 'release_lease', 'stop' })

-- -- the log

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
  local known = call('HMGET', LOG, 'epoch', 'run', 'seq', 'shard', 'layout')
  if known[1] and known[5] ~= LAYOUT then return redis.error_reply('LAYOUT ' .. (known[5] or '1')) end
  if known[4] and known[4] ~= a.shard then return redis.error_reply('SHARD this is shard ' .. known[4]) end
  local offset = tonumber(known[3] or '0')
  local epoch, run = known[1], known[2]
  if epoch and run ~= a.run and has_moved_here(a, run) then
    run = a.run
    call('HSET', LOG, 'run', run)
  end
  if not epoch or run ~= a.run or a.distrust or (epoch == a.known_epoch and offset < a.known_seq) then
    -- This is another server process, or its log has lost the newest events, or the node asks for a new epoch
    -- (`ShardSubscriber._on_gap`). In all three cases the log may lack acknowledged events, and would assign their offsets to
    -- other events. So a new epoch begins, which makes all older positions invalid. The offset continues from the
    -- highest offset that is known.
    epoch, offset = a.candidate, math.max(offset, a.known_seq)
    call('HSET', LOG, 'epoch', epoch, 'run', a.run, 'seq', whole(offset), 'shard', a.shard,
      'layout', LAYOUT)
    call(PUBLISH, PREFIX .. '#all', 'epoch ' .. epoch)
    outbox.renumber()
  end
  return { epoch, whole(offset) }
end

function operations.head() return whole(head()) end

-- Publish a mark to the calling node, if it asks for one. When the mark arrives there, everything published before the
-- mark has arrived too.
local function publish_mark(a)
  if a.mark then call(PUBLISH, key('#n', a.node), 'mark ' .. a.mark .. ' ' .. whole(head())) end
end

-- A message of the visible history: {offset, time in ms, record}.
local function history_record(channel, uuid)
  local packed = call('HGET', key('hr', channel), uuid)
  return packed and cmsgpack.unpack(packed)
end

local function update_history(event, record, offset)
  local records, order = key('hr', event.channel), key('ho', event.channel)
  if record[KIND] == 'message' then
    local at_most = tonumber(call('HGET', key('c', event.channel), 'shown') or '0')
    if event.no_history or at_most <= 0 then return end
    call('HSET', records, event.uuid, cmsgpack.pack({ whole(offset), whole(now_ms), record }))
    call('ZADD', order, whole(offset), event.uuid)
    if token_of(record) then set_payload('h', event.channel, event.uuid, token_of(record)) end
    trim_history(event.channel, at_most)
    return
  end
  local shown = history_record(event.channel, event.uuid)
  if not shown then return end
  local form = current(shown[3], record)
  if form then
    call('HSET', records, event.uuid, cmsgpack.pack({ shown[1], shown[2], form }))
    if token_of(form) ~= token_of(shown[3]) then set_payload('h', event.channel, event.uuid, token_of(form)) end
  else
    call('HDEL', records, event.uuid)
    call('ZREM', order, event.uuid)
    clear_payloads('h', event.channel, { event.uuid })
  end
end

local function of_kind(known, kind)
  local found = {}
  for _, record in ipairs(known) do
    if record[KIND] == kind then found[#found + 1] = record end
  end
  return found
end

-- Most forms of a message that are written in one step.
local MAX_FORMS = 50

-- Whether the edits among the records about an event's uuid in a log are early. Not if a payload is big: it was published
-- and kept for one entry only, and the message in its edited form is another. Nor if these forms are too much to write: there
-- is one for each edit.
local function has_early(kind, name, event, records)
  if #of_kind(records, 'edit') == 0 or #of_kind(records, 'message') > 0 then return false end
  local bytes = 0
  for _, record in ipairs({ { [PARTS] = event.parts }, unpack(records) }) do
    if token_of(record) then return false end
  end
  for _, part in ipairs(event.parts or {}) do bytes = bytes + #part end
  if #records > MAX_FORMS or #records * bytes > MAX_RECORD_BYTES then return false end
  return call('HEXISTS', key(kind .. 'x', name), early_mark(event.uuid)) == 1
end

-- The records with an event's uuid in its log and history, and its early edits. For a private event these are the records in
-- the logs of all its users. The third result lists those users of the event that exist here and have no record of the
-- message in their log.
local function known_about(event)
  local known, early, new = {}, {}, {}
  if event.channel then
    local shown = history_record(event.channel, event.uuid)
    local records = records_of('c', event.channel, event.uuid)
    local is_early = not shown and has_early('c', event.channel, event, records)
    for _, record in ipairs(records) do
      local list = is_early and record[KIND] == 'edit' and early or known
      list[#list + 1] = record
    end
    if shown then known[#known + 1] = shown[3] end
    return known, early
  end
  for _, user in ipairs(event.only) do
    local records = records_of('u', user, event.uuid)
    local is_early = has_early('u', user, event, records)
    local list = is_early and early or known
    for _, record in ipairs(records) do list[#list + 1] = copy(record, ONLY, { user }) end
    if is_early or #records == 0 and call('EXISTS', key('u', user)) == 1 then new[#new + 1] = user end
  end
  return known, early, new
end

-- A record restricted to the recipients that have none of the known records; nil if no recipient is left.
local function unknown_part(record, known)
  for _, each in ipairs(known) do
    record = record and without_names(record, each[ONLY])
  end
  return record
end

-- The Redis key that holds a payload of an event; nil if none has it. A channel's payloads are stored beside its log and
-- beside its history, those of a private event beside the logs of its users.
local function find_payload(event, token)
  for _, each in ipairs(payload_keys_of(event)) do
    if call('HEXISTS', each[1], token) == 1 then return each[1] end
  end
end

-- The answer to a message that every recipient already has: `repeated` with its current form; `repeated` alone if the
-- payload is missing; or `deleted`.
local function duplicate_answer(event, record, known)
  local form = of_kind(known, 'message')[1] or record
  for _, each in ipairs(known) do
    if form == nil then break end
    if each[KIND] ~= 'message' and #of_kind(known, 'message') == 0 then form = current(form, each) end
  end
  if not form then return { 'deleted' } end
  local token = token_of(form)
  if not token then return { 'repeated', text_of(form) } end
  local payloads = find_payload(event, token)
  return payloads and { 'repeated', text_of(form), payloads, token } or { 'repeated' }
end

local function store_and_publish(event, record, offset)
  local text = text_of(record)
  if event.channel then
    if emit('c', event.channel, offset, event.uuid, text, record) then
      touch('c', event.channel)
      if not record[ONLY] then update_history(event, record, offset) end
    end
    return
  end
  local excluded = set_of(record[EXCLUDE])
  for _, user in ipairs(record[ONLY]) do
    if not excluded[user] then
      emit('u', user, offset, event.uuid, text, record)
    elseif record[KIND] ~= 'message' then
      local _, dropped = supersede('u', user, event.uuid, record)
      clear_payloads('u', user, dropped)
    end
  end
end

-- Accept a message for the recipients that have none of the known records, in one entry for each of its forms.
local function accept_message(event, record, known, early, new)
  local rest = unknown_part(record, known)
  if not event.channel and #known > 0 then rest = #new > 0 and copy(record, ONLY, new) or nil end
  if not rest then return duplicate_answer(event, record, known) end
  for _, form in ipairs(late_forms(rest, early)) do store_and_publish(event, form, next_offset()) end
  for _, edit in ipairs(early) do
    local kind, name = event.channel and 'c' or 'u', event.channel or edit[ONLY][1]
    call('HDEL', key(kind .. 'x', name), early_mark(event.uuid))
  end
  return { 'accepted' }
end

local function accept_change(event, record, known, new)
  local found = false
  for _, each in ipairs(of_kind(known, 'message')) do found = found or affects(event.only, each) end
  if event.kind == 'edit' then record = unknown_part(record, of_kind(known, 'delete')) end
  if not record then return { 'deleted' } end
  store_and_publish(event, record, next_offset())
  if event.kind == 'edit' then
    -- An edit that is not early came after the message, which may have left the log.
    local has_come = #of_kind(known, 'message') + #of_kind(known, 'edit') > 0
    if event.channel and not has_come then mark_early('c', event.channel, event.uuid) end
    for _, user in ipairs(new or {}) do mark_early('u', user, event.uuid) end
  end
  return { found and 'found' or 'accepted' }
end

local function accept(event)
  local record = { '', event.kind, event.head, event.only, event.exclude, event.parts }
  local known, early, new = known_about(event)
  if event.kind == 'message' then return accept_message(event, record, known, early, new) end
  return accept_change(event, record, known, new)
end

-- Accept events in order, until the limits are reached; return an answer for each accepted event. The caller sends the
-- events without an answer in a further call.
function operations.publish(a)
  local answers = {}
  for number, event in ipairs(a.events) do
    answers[number] = accept(event)
    drop_unreferenced(event)
    if is_out_of_budget() then break end
  end
  return answers
end

-- Read one of several logs; `wanted` is {kind, name, start}. Add its entries to `found`, and return how many were read and
-- the offset of the last one; nil if the log no longer reaches back to the start.
local function scan_log(found, number, wanted, known, after, read_to, count)
  local kind, name = wanted[1], wanted[2]
  local entries = read_log(kind, name, known, after, read_to, count)
  if not entries then return nil end
  local offset = after
  for _, entry in ipairs(entries) do
    offset = tonumber(entry[1]:match('^%d+'))
    -- A private message has the same offset in the log of each of its users, but these logs may hold different forms of it.
    -- So its slot has the user's name too.
    local slot = kind == 'u' and entry[1] .. name or offset
    found[slot] = found[slot] or { offset, kind, name, entry[1], entry[2][2], number }
  end
  return #entries, offset
end

-- The log that was read the least far, among those that were not read to their end.
local function least_advanced(ends)
  local least
  for number, offset in pairs(ends) do
    if not least or offset < ends[least] then least = number end
  end
  return least
end

local function entries_up_to(found, read_to)
  local read = {}
  for _, each in pairs(found) do
    if each[1] <= read_to then read[#read + 1] = each end
  end
  return read
end

-- How many entries to read at first from each log that has new ones. The limit is divided among these logs, so that reading
-- many logs costs little more than reading few.
local function fair_share(starts, known, limit)
  local busy = 1
  for number, wanted in ipairs(starts) do
    if tonumber(known[number][1] or '0') > wanted[3] then busy = busy + 1 end
  end
  return math.min(limit + 1, math.max(2, math.ceil(limit / busy)))
end

-- `find_all` at first reads the same number of entries from each log. After that it reads more from the log that was read
-- the least far, at most this many times. The answer is complete only up to where that log was read.
local MAX_REFILLS = 4

-- Entries in offset order, in groups of one offset.
local function by_offset(read)
  table.sort(read, function(one, other) return one[1] < other[1] or one[1] == other[1] and one[6] < other[6] end)
  local groups, last = {}, nil
  for _, each in ipairs(read) do
    if each[1] ~= last then groups[#groups + 1] = {} end
    last = each[1]
    table.insert(groups[#groups], each)
  end
  return groups
end

-- Read several logs. Return the entries {offset, kind, name, id, at, log} in groups of one offset, in order; the indexes of
-- lost logs; and the offset up to which the entries are complete.
local function find_all(starts, limit, read_to)
  local known, newest, lost, found, ends = {}, head(), {}, {}, {}
  for number, wanted in ipairs(starts) do known[number] = log_state(wanted[1], wanted[2]) end
  local share = fair_share(starts, known, limit)
  for number, wanted in ipairs(starts) do
    local count, last
    if wanted[3] <= newest then count, last = scan_log(found, number, wanted, known[number], wanted[3], read_to, share) end
    if not count then lost[#lost + 1] = number end
    if count == share then ends[number] = last end
  end
  local more = math.ceil(limit / MAX_REFILLS)
  for _ = 1, MAX_REFILLS do
    local number = least_advanced(ends)
    if not number or #entries_up_to(found, ends[number]) >= limit then break end
    local count, last = scan_log(found, number, starts[number], known[number], ends[number], read_to, more)
    if not count then lost[#lost + 1] = number end
    ends[number] = count == more and last or nil
  end
  local number = least_advanced(ends)
  read_to = number and math.min(read_to, ends[number]) or read_to
  return by_offset(entries_up_to(found, read_to)), lost, read_to
end

-- This many entries are returned even when the time is over: finding them took the time, and a repeated call would have to
-- find them again.
local MIN_ENTRIES = 64

-- Read several logs; `starts` has {kind, name, start} for each. Return {head, offset up to which the answer is complete,
-- indexes of lost logs, entries}. What does not fit into the answer is read by a further call.
function operations.replay(a)
  local found, lost, read_to = find_all(a.starts, a.limit, math.min(head(), a.upto or head()))
  local entries = {}
  for _, group in ipairs(found) do
    -- The entries of one offset are never split over two answers, because the next call continues after that offset.
    if #entries >= a.limit or used_bytes >= SLICE_BYTES or #entries >= MIN_ENTRIES and is_out_of_time() then
      read_to = group[1][1] - 1
      break
    end
    add_forms(group, entries, lost)
  end
  publish_mark(a)
  return { whole(head()), whole(read_to), lost, entries }
end

-- -- connections

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

-- Send a command to the owner of a connection; return how many nodes have received it, or -1 if no node owns the
-- connection.
function operations.ask(a)
  local node, ending = unpack(call('HMGET', key('k', a.conn_id), 'dir', 'ending'))
  if not node or ending then return -1 end
  a.to = node
  return operations.ask_node(a)
end

function operations.reply(a) call(PUBLISH, key('#n', a.node), 'reply ' .. a.token .. ' ' .. ARGV[7]) end

-- -- settings, state and reading

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

-- -- nodes

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

-- -- the outbox

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

-- Refuse a call, and delete the payloads that came with it.
local function refuse(a, reason)
  for _, event in ipairs(a.events or {}) do drop_unreferenced(event) end
  return redis.error_reply(reason)
end

local arguments = cmsgpack.unpack(ARGV[6])
if time_ms >= tonumber(ARGV[8]) then return refuse(arguments, 'LATE the caller has given this call up') end
if EPOCH ~= '' and call('HGET', LOG, 'epoch') ~= EPOCH then return refuse(arguments, 'EPOCH the log is another one') end
if FREEING[ARGV[5]] then detect_full() end
local answer = operations[ARGV[5]](arguments) or false
if type(answer) == 'table' and answer.err then return answer end
-- The node uses this time to estimate how far the clock of Redis is ahead of the node's clock.
return { whole(time_ms), answer }
