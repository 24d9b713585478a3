-- Accepts, stores and publishes events.
-- Uses: 10_script, 20_records, 21_compaction, 22_log, 40_channels, 60_table

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

-- Whether a message can be accepted in its edited forms after early edits. Not if a payload is big: it was published and kept
-- for one entry only, and the message in its edited form is another. Nor if these forms are too much to write: there is one
-- for each edit.
local function can_be_late(event, records)
  local bytes = 0
  for _, record in ipairs({ { [PARTS] = event.parts }, unpack(records) }) do
    if token_of(record) then return false end
  end
  for _, part in ipairs(event.parts) do bytes = bytes + #part end
  return #records <= MAX_FORMS and #records * bytes <= MAX_RECORD_BYTES
end

-- Whether the edits among the records about an event's uuid in a log are early; for a message only where it can be late.
local function has_early(kind, name, event, records)
  if #of_kind(records, 'edit') == 0 or #of_kind(records, 'message') > 0 then return false end
  if event.kind == 'message' and not can_be_late(event, records) then return false end
  return call('HEXISTS', key(kind .. 'x', name), early_mark(event.uuid)) == 1
end

-- The records with an event's uuid in its log and history, and its early edits. For a private event these are the records in
-- the logs of all its users. The third result lists those users of the event that exist here, are not excluded and have no
-- record of the message in their log; the fourth those that do not exist here.
local function known_about(event)
  local known, early, new, unknown = {}, {}, {}, {}
  if event.channel then
    local shown = history_record(event.channel, event.uuid)
    local records = records_of('c', event.channel, event.uuid)
    local is_early = not shown and has_early('c', event.channel, event, records)
    for _, record in ipairs(records) do
      local list = is_early and record[KIND] == 'edit' and early or known
      list[#list + 1] = record
    end
    if shown then known[#known + 1] = shown[3] end
    return known, early, new, unknown
  end
  local excluded = set_of(event.exclude)
  for _, user in ipairs(event.only) do
    local records = records_of('u', user, event.uuid)
    local is_early = has_early('u', user, event, records)
    -- For a user who is excluded, an early edit stays early.
    local list = not is_early and known or excluded[user] and {} or early
    for _, record in ipairs(records) do list[#list + 1] = copy(record, ONLY, { user }) end
    if #records == 0 and call('EXISTS', key('u', user)) == 0 then
      unknown[#unknown + 1] = user
    elseif (is_early or #records == 0) and not excluded[user] then
      new[#new + 1] = user
    end
  end
  return known, early, new, unknown
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
    elseif record[KIND] ~= 'message' and #records_of('u', user, event.uuid) > 0 then
      -- This user is not sent it, and has had the message: if that is repeated, it is no new one.
      keep('u', user, offset, event.uuid, text, record)
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

local function accept_change(event, record, known, new, unknown)
  local found = false
  for _, each in ipairs(known) do found = found or each[KIND] ~= 'delete' and not is_for_others(event.only, each) end
  local deleted = of_kind(known, 'delete')
  if event.kind == 'edit' and #deleted > 0 then
    -- Users who are unknown count as those for whom it was deleted: nobody is there to be sent the edit.
    deleted[#deleted + 1] = #unknown > 0 and copy(record, ONLY, unknown) or nil
    record = unknown_part(record, deleted)
  end
  if not record then return { 'deleted' } end
  store_and_publish(event, record, next_offset())
  if event.kind == 'edit' then
    -- An edit that is not early came after the message, which may have left the log.
    local has_come = #of_kind(known, 'message') + #of_kind(known, 'edit') > 0
    if event.channel and not has_come then mark_early('c', event.channel, event.uuid) end
    for _, user in ipairs(new) do mark_early('u', user, event.uuid) end
  end
  return { found and 'found' or 'accepted' }
end

local function accept(event)
  local record = { '', event.kind, event.head, event.only, event.exclude, event.parts }
  local known, early, new, unknown = known_about(event)
  local answer
  if event.kind == 'message' then
    answer = accept_message(event, record, known, early, new)
  else
    answer = accept_change(event, record, known, new, unknown)
  end
  -- All its users are unknown here, or excluded: what becomes of its other parts decides.
  if not event.channel and #known + #new == 0 then return { 'nobody' } end
  return answer
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
