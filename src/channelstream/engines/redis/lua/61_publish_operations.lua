-- Accepts, stores and publishes events, by the rules of core/acceptance.py.
--
-- Invariant: a user gets a message once, and no older text of it after a newer one. The records with the uuid of an event, in
-- logs and history, say which of its recipients have the message already, or its deletion (`known_about`). No other list of
-- accepted uuids is kept, so a uuid is known as long as it has a record.
--
-- The race: an edit may be accepted before its message. Two nodes publish at the same time, or a message to very many users
-- is accepted in several scripts, and the edit comes in between. Such an edit is `early`: it is stored and published, and
-- marked (`mark_early`), as its record alone would say that its recipients have had the message. The message is `late` then:
-- it is accepted after the edit, in its edited forms (`late_forms`), one for the users of each edit. To refuse an early edit
-- would lose it, since its publisher cannot know when the message is accepted; to send the message as it was published would
-- show the old text after the new one. The price is a form for each edit, which `can_be_late` bounds.
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

-- Divide the records about an event's uuid in a log into the early edits and the others. All are others to a message that cannot
-- be late.
local function divided(kind, name, event, records)
  local early, others = {}, {}
  local ids = #of_kind(records, 'edit') > 0 and early_ids(kind, name, event.uuid) or {}
  for _, record in ipairs(records) do
    local list = ids[record[ID]] and early or others
    list[#list + 1] = record
  end
  if event.kind == 'message' and #early > 0 and not can_be_late(event, early) then return {}, { unpack(records) } end
  return early, others
end

-- What is known about an event's uuid. Five lists:
--   known    the records in its log and history, those of a private event in the logs of all its users; without early edits
--   early    its early edits
--   new      users of a private event that exist here, are not excluded, and have no record but early edits
--   unknown  users of a private event that do not exist here
--   waiting  as `new`, with the excluded users
local function known_about(event)
  local known, early, new, unknown, waiting = {}, {}, {}, {}, {}
  if event.channel then
    early, known = divided('c', event.channel, event, records_of('c', event.channel, event.uuid))
    local shown = history_record(event.channel, event.uuid)
    if shown then known[#known + 1] = shown[3] end
    return known, early, new, unknown, waiting
  end
  local excluded = set_of(event.exclude)
  for _, user in ipairs(event.only) do
    local records = records_of('u', user, event.uuid)
    local its_early, others = divided('u', user, event, records)
    for _, record in ipairs(others) do known[#known + 1] = copy(record, ONLY, { user }) end
    if #records == 0 and call('EXISTS', key('u', user)) == 0 then
      unknown[#unknown + 1] = user
    elseif #others == 0 then
      waiting[#waiting + 1] = user
      if not excluded[user] then
        new[#new + 1] = user
        for _, record in ipairs(its_early) do early[#early + 1] = copy(record, ONLY, { user }) end
      end
    end
  end
  return known, early, new, unknown, waiting
end

-- A record restricted to the recipients that have none of the known records; nil if no recipient is left. The names of all of
-- these are left out together: one after the other they would be copied as often as there are records.
local function unknown_part(record, known)
  local names, has = {}, {}
  for _, each in ipairs(known) do
    if not each[ONLY] then return nil end
    for _, name in ipairs(each[ONLY]) do
      if not has[name] then names[#names + 1] = name end
      has[name] = true
    end
  end
  if #names == 0 then return record end
  return without_names(record, names)
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
  local messages = of_kind(known, 'message')
  local form = messages[1] or record
  for _, each in ipairs(#messages == 0 and known or {}) do form = form and current(form, each) end
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
      -- This user is not sent it, nor an older form: its log keeps it for a message that is repeated, or comes later.
      keep('u', user, offset, event.uuid, text, record)
    end
  end
end

-- Note which early edits are followed by their message now: the log may lose that before them (`records_of`), and
-- still has to know it.
local function end_early(event, record, early)
  local ended = {}
  for _, edit in ipairs(early) do
    if not event.channel then
      unmark_early('u', edit[ONLY][1], event.uuid, { [edit[ID]] = true })
    elseif is_for_all_of(record, edit[ONLY] and copy(edit, EXCLUDE, false) or edit) then
      ended[edit[ID]] = true
    end
  end
  if next(ended) then unmark_early('c', event.channel, event.uuid, ended) end
end

-- Accept a message for the recipients that have none of the known records, in one entry for each of its forms.
local function accept_message(event, record, known, early, new)
  local rest = unknown_part(record, known)
  if not event.channel and #known > 0 then rest = #new > 0 and copy(record, ONLY, new) or nil end
  if not rest then return duplicate_answer(event, record, known) end
  for _, form in ipairs(late_forms(rest, early)) do store_and_publish(event, form, next_offset()) end
  end_early(event, record, early)
  return { 'accepted' }
end

-- Divide an edit in a channel into one for the users who have one of these records, and one for those who have none; nil for
-- nobody. A big payload was published and kept for one entry only.
local function split_early(edit, known)
  if #known == 0 then return nil, edit end
  if not edit[ONLY] or token_of(edit) then return edit end
  local ordinary, early, has = {}, {}, {}
  for _, each in ipairs(known) do
    if not each[ONLY] then return edit end
    for _, name in ipairs(each[ONLY]) do has[name] = true end
  end
  for _, name in ipairs(edit[ONLY]) do
    local list = has[name] and ordinary or early
    list[#list + 1] = name
  end
  return #ordinary > 0 and copy(edit, ONLY, ordinary) or nil, #early > 0 and copy(edit, ONLY, early) or nil
end

-- Accept an edit for the users who have had the message, and an early one for those who have not.
local function accept_edit(event, record, kept, waiting)
  if not event.channel then
    local offset = next_offset()
    store_and_publish(event, record, offset)
    for _, user in ipairs(waiting) do mark_early('u', user, event.uuid, offset) end
    return
  end
  local ordinary, early = split_early(record, kept)
  if ordinary then store_and_publish(event, ordinary, next_offset()) end
  if early then
    local offset = next_offset()
    store_and_publish(event, early, offset)
    mark_early('c', event.channel, event.uuid, offset)
  end
end

-- An edit restricted to the users for whom the message is not deleted; nil if there are none. Those whom it excludes count as
-- well: they are not sent it, nor the older text.
local function undeleted(edit, deleted)
  if not edit[ONLY] or not edit[EXCLUDE] then return unknown_part(edit, deleted) end
  local left = unknown_part(copy(edit, EXCLUDE, false), deleted)
  return left and copy(left, EXCLUDE, edit[EXCLUDE])
end

local function accept_change(event, record, known, unknown, waiting)
  local found, kept, deleted = false, {}, {}
  for _, each in ipairs(known) do
    local list = each[KIND] == 'delete' and deleted or kept
    list[#list + 1] = each
    found = found or list == kept and not is_for_others(event.only, each)
  end
  if event.kind == 'delete' then
    store_and_publish(event, record, next_offset())
  else
    if #deleted > 0 and #unknown > 0 then
      -- Users who are unknown count as those for whom it was deleted: nobody is there to be sent the edit.
      deleted[#deleted + 1] = copy(record, ONLY, unknown)
    end
    record = undeleted(record, deleted)
    if not record then return { 'deleted' } end
    accept_edit(event, record, kept, waiting)
  end
  return { found and 'found' or 'accepted' }
end

local function accept(event)
  local record = { '', event.kind, event.head, event.only, event.exclude, event.parts }
  local known, early, new, unknown, waiting = known_about(event)
  local answer
  if event.kind == 'message' then
    answer = accept_message(event, record, known, early, new)
  else
    answer = accept_change(event, record, known, unknown, waiting)
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
