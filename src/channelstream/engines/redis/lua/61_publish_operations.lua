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

-- Divide the records about an event's uuid in a log: the early edits are known, too, to a message that cannot be late.
local function without_early(event, records)
  local early = of_kind(records, 'early')
  if #early == 0 or event.kind == 'message' and not can_be_late(event, early) then return records, {} end
  local others = {}
  for _, record in ipairs(records) do
    if record[KIND] ~= 'early' then others[#others + 1] = record end
  end
  return others, early
end

-- The records with an event's uuid in its log and history, and its early edits. For a private event these are the records in
-- the logs of all its users. The third result lists those users of the event that exist here, are not excluded and have no
-- record of the message in their log; the fourth those that do not exist here.
local function known_about(event)
  local new, unknown = {}, {}
  if event.channel then
    local found, early = without_early(event, records_of('c', event.channel, event.uuid))
    local shown = history_record(event.channel, event.uuid)
    if shown and #of_kind(found, 'message') == 0 then found = { shown[3], unpack(found) } end
    return found, early, new, unknown
  end
  local known, early, excluded = {}, {}, set_of(event.exclude)
  for _, user in ipairs(event.only) do
    local records = records_of('u', user, event.uuid)
    local its_own, its_early = without_early(event, records)
    for _, record in ipairs(its_own) do known[#known + 1] = copy(record, ONLY, { user }) end
    if #records == 0 and call('EXISTS', key('u', user)) == 0 then
      unknown[#unknown + 1] = user
    elseif not excluded[user] or event.kind ~= 'message' then
      for _, record in ipairs(its_early) do early[#early + 1] = copy(record, ONLY, { user }) end
      if #its_own == 0 then new[#new + 1] = user end
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

-- Of the messages with a uuid the one that was accepted first, and rather one that was not edited: users may have different
-- forms of a private one.
local function first_message(known)
  local messages = of_kind(known, 'message')
  local function is_before(one, other)
    local edited, same = one[PARTS][EDITED] ~= '', (one[PARTS][EDITED] ~= '') == (other[PARTS][EDITED] ~= '')
    if not same then return not edited end
    return tonumber(one[ID]:match('^%d+') or '0') < tonumber(other[ID]:match('^%d+') or '0')
  end
  local first = messages[1]
  for _, each in ipairs(messages) do
    if is_before(each, first) then first = each end
  end
  return first
end

-- The answer to a message that every recipient already has: `repeated` with its current form; `repeated` alone if the
-- payload is missing; or `deleted`.
local function duplicate_answer(event, record, known)
  local form, edits = first_message(known), of_kind(known, 'edit')
  if not form and #edits > 0 then
    form = record
    -- They are for users who still have it.
    for _, edit in ipairs(edits) do form = current(form, edit) end
  end
  if not form then return { 'deleted' } end
  local token = token_of(form)
  if not token then return { 'repeated', text_of(form) } end
  local payloads = find_payload(event, token)
  return payloads and { 'repeated', text_of(form), payloads, token } or { 'repeated' }
end

-- Store and publish a record; of a private edit, as an early one for the users `late`.
local function store_and_publish(event, record, offset, late)
  local text = text_of(record)
  if event.channel then
    if emit('c', event.channel, offset, event.uuid, text, record) then
      touch('c', event.channel)
      if not record[ONLY] then update_history(event, record, offset) end
    end
    return
  end
  local excluded, is_late = set_of(record[EXCLUDE]), set_of(late)
  for _, user in ipairs(record[ONLY]) do
    -- A change is also in the logs of users whom it excludes: they had the message, and get neither it nor the change again.
    if not excluded[user] or record[KIND] ~= 'message' then
      local kept = is_late[user] and copy(record, KIND, 'early') or record
      emit('u', user, offset, event.uuid, text, kept, excluded[user])
    end
  end
end

-- Accept a message for the recipients that have none of the known records, in one entry for each of its forms.
local function accept_message(event, record, known, early, new)
  local rest = unknown_part(record, known)
  if not event.channel and #known > 0 then rest = #new > 0 and copy(record, ONLY, new) or nil end
  if not rest then return duplicate_answer(event, record, known) end
  for _, form in ipairs(late_forms(rest, early)) do store_and_publish(event, form, next_offset()) end
  return { 'accepted' }
end

-- Divide an edit in a channel: for the users who have one of the records about its message, and an early one for those who
-- have none. Not if its payload is big: it was published and kept for one entry only.
local function split_early(record, known)
  local has, mine, late = {}, {}, {}
  for _, each in ipairs(known) do
    if not record[ONLY] or not each[ONLY] then return { record } end
    for _, name in ipairs(each[ONLY]) do has[name] = true end
  end
  for _, name in ipairs(record[ONLY] or {}) do
    local list = has[name] and mine or late
    list[#list + 1] = name
  end
  if #mine == 0 then return { copy(record, KIND, 'early') } end
  if #late == 0 or token_of(record) then return { record } end
  return { copy(record, ONLY, mine), copy(copy(record, ONLY, late), KIND, 'early') }
end

local function accept_change(event, record, known, early, new, unknown)
  local found = false
  for _, each in ipairs(known) do found = found or each[KIND] ~= 'delete' and affects(event.only, each) end
  local deleted = of_kind(known, 'delete')
  if event.kind == 'edit' and #deleted > 0 then
    -- Users who are unknown count as those for whom it was deleted: nobody is there to be sent the edit.
    deleted[#deleted + 1] = #unknown > 0 and copy(record, ONLY, unknown) or nil
    record = unknown_part(record, deleted)
  end
  if not record then return { 'deleted' } end
  local parts = { record }
  if event.kind == 'edit' and event.channel then
    -- An edit that is not early came after the message, which may have left the log.
    local rest = of_kind(known, 'message')
    for _, edit in ipairs(of_kind(known, 'edit')) do rest[#rest + 1] = edit end
    parts = split_early(record, rest)
    for _, edit in ipairs(of_kind(known, 'edit')) do early[#early + 1] = edit end
    local divided = {}
    for _, part in ipairs(parts) do
      for _, each in ipairs(by_older_edits(part, early)) do divided[#divided + 1] = each end
    end
    parts = divided
  end
  for _, part in ipairs(parts) do store_and_publish(event, part, next_offset(), event.kind == 'edit' and new) end
  return { found and 'found' or 'accepted' }
end

local function accept(event)
  local record = { '', event.kind, event.head, event.only, event.exclude, event.parts }
  local known, early, new, unknown = known_about(event)
  local answer
  if event.kind == 'message' then
    answer = accept_message(event, record, known, early, new)
  else
    answer = accept_change(event, record, known, early, new, unknown)
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
