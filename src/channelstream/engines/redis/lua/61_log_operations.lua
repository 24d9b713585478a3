-- Operations on the log: which one it is, publishing, and replay.

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
