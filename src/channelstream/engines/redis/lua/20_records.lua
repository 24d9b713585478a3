-- The records of events in a log, and big payloads beside it.
--
-- A log is a stream whose ids are the offsets of its events. Its entries have no text, so reading offsets costs the same
-- whatever the events are. The texts are in a hash beside it, by the id of the entry: a body for presence and states, and a
-- packed record for messages, edits and deletions, which is overwritten by the script that supersedes it. Another hash has
-- the ids of the records of each uuid. `holder` is the key of the channel's or user's hash, with the fields last (offset
-- of the last event), floor (the log is complete after it), n (most entries) and age (ms).
-- Uses: 10_script

-- A record: the id of its entry, kind, the JSON that the node has made of the other fields, without its closing brace, two lists
-- of users or false, and parts as JSON texts, empty where missing. A big payload lies beside the log: its part is a table with
-- its token.
local ID, KIND, HEAD, ONLY, EXCLUDE, PARTS = 1, 2, 3, 4, 5, 6
local PAYLOAD = 2
local MAX_EXCLUDED = 1000

-- Texts of events that nodes receive and read are packed, and the nodes format JSON: the three forms are in
-- `event_text.read_event`.
-- Entries keep that text for an event that this script has made; for others a packed record, an array of six.
local RECORD_BYTE = 0x96

local function token_of(record)
  local payload = record[PARTS][PAYLOAD]
  return type(payload) == 'table' and payload[1] or nil
end

-- The text of a record.
local function text_of(record)
  return cmsgpack.pack({ 'record', record[HEAD], record[ONLY], record[EXCLUDE], record[PARTS] })
end

-- The keys of the two kinds of logs, c for channels and u for users: holder, entries, texts, ids by uuid.
local function log_keys(kind, name)
  return key(kind, name), key(kind .. 'l', name), key(kind .. 'r', name), key(kind .. 'x', name)
end

-- Big payloads. Lua hashes and copies each text it touches, 8 ms for 4 MB, so it never touches big payloads. The node that
-- publishes one writes it into the hashes where it may be kept, under a token, and publishes it, by commands in one
-- transaction with the script. The script stores the token, counts its references, and deletes the payload with the last
-- one; a reader fetches it by a command.
--
-- Each log (c, u) and each visible history (h) counts its own references. For example, message m with payload P is entry
-- 7-0 of channel a, and is shown in its history:
--   the node         HSET cp:a T1 P, HSET hp:a T1 P    T1 is the token
--   `set_payload`    cq:a { @7-0 = T1, T1 = 1 }        the holder in a log is the id of an entry
--   `set_payload`    hq:a { @m = T1, T1 = 1 }          the holder in a history is the uuid
-- An edit with payload Q and token T2 is entry 8-0. `set_payload` gives T2 to 8-0, and to 7-0 as well, whose record has that
-- payload now: cq:a { @7-0 = T2, @8-0 = T2, T2 = 2 }, hq:a { @m = T2, T2 = 1 }. T1 has no reference, so P is deleted.
-- `clear_payloads` removes the references of entries that leave a log. `drop_unreferenced` deletes a payload that got no
-- reference at all, such as that of a duplicate.

-- The two keys beside a log (c, u) or a visible history (h): payloads by token; and @holder = token, token = references.
local function payload_keys(kind, name) return { key(kind .. 'p', name), key(kind .. 'q', name) } end

-- Give a holder the payload of a token, nil for none, in place of its former one.
local function set_payload(kind, name, owner, token)
  local payloads, owners = unpack(payload_keys(kind, name))
  local before = call('HGET', owners, '@' .. owner)
  if before == (token or false) then return end
  if token then
    call('HSET', owners, '@' .. owner, token)
    call('HINCRBY', owners, token, 1)
  else
    call('HDEL', owners, '@' .. owner)
  end
  if before and call('HINCRBY', owners, before, -1) == 0 then
    call('HDEL', owners, before)
    call('HDEL', payloads, before)
  end
end

-- Remove the references of holders that were dropped.
local function clear_payloads(kind, name, dropped)
  if call('EXISTS', payload_keys(kind, name)[2]) == 0 then return end
  for _, owner in ipairs(dropped) do set_payload(kind, name, owner, nil) end
end

-- The places into which the node may have written the payload of an event.
local function payload_keys_of(event)
  if event.channel then return { payload_keys('c', event.channel), payload_keys('h', event.channel) } end
  local found = {}
  for number, user in ipairs(event.only) do found[number] = payload_keys('u', user) end
  return found
end

-- Delete the payload of an event wherever nothing refers to it.
local function drop_unreferenced(event)
  local token = event.parts and token_of({ [PARTS] = event.parts })
  if not token then return end
  for _, each in ipairs(payload_keys_of(event)) do
    if call('HEXISTS', each[2], token) == 0 then call('HDEL', each[1], token) end
  end
end

-- Answers of `records_of`, until they change: accepting and storing an event both ask for them.
local record_cache = {}

-- An edit that is accepted before its message is early (core/acceptance.py): its id is among those that the ids of its uuid have
-- beside them.
local function early_mark(uuid) return '?' .. uuid end

local function as_set(text)
  local set = {}
  for each in (text or ''):gmatch('%S+') do set[each] = true end
  return set
end

-- The ids of the early edits of a message in a log, as a set.
local function early_ids(kind, name, uuid) return as_set(call('HGET', key(kind .. 'x', name), early_mark(uuid))) end

-- Note that an edit which a log has stored is early; nothing if it keeps no events.
local function mark_early(kind, name, uuid, offset)
  local ids, early = key(kind .. 'x', name), early_ids(kind, name, uuid)
  local left = {}
  early[whole(offset) .. '-0'] = true
  for id in pairs(as_set(call('HGET', ids, uuid))) do
    if early[id] then left[#left + 1] = id end
  end
  if #left > 0 then call('HSET', ids, early_mark(uuid), table.concat(left, ' ')) end
end

-- Note that these early edits, a set of ids, are none any more: all their users have had the message.
local function unmark_early(kind, name, uuid, ended)
  local left = {}
  for id in pairs(early_ids(kind, name, uuid)) do
    if not ended[id] then left[#left + 1] = id end
  end
  local ids = key(kind .. 'x', name)
  if #left > 0 then call('HSET', ids, early_mark(uuid), table.concat(left, ' ')) else call('HDEL', ids, early_mark(uuid)) end
end

-- Set the ids of the records about a uuid.
local function index_records(ids, uuid, left)
  record_cache[ids .. ' ' .. uuid] = nil
  if #left == 0 then
    call('HDEL', ids, uuid, early_mark(uuid))
  else
    call('HSET', ids, uuid, table.concat(left, ' '))
  end
end

-- Most records about one uuid in a log, and their bytes: each change of a message reads all of them. It also writes at most
-- these bytes, so that there are never more than twice as many to read. A name takes up to 0.9 us, however short it is, so it
-- counts for more than its bytes.
local MAX_RECORDS, MAX_RECORD_BYTES = 250, SLICE_BYTES / 4
-- Ids in the first command that reads some of them, when their bytes are not known, and in any.
local FIRST_IDS, IDS_AT_ONCE = 10, 100

-- Raise the floor of a log: it is complete only after that offset. It never sinks, and entries before it may still exist.
local function raise_floor(holder, offset)
  local floor = tonumber(call('HGET', holder, 'floor') or '0')
  if offset > floor then call('HSET', holder, 'floor', whole(offset)) end
end

-- Delete entries and their texts, by one command for many: each command costs as much as some fifty entries.
local function delete_entries(log, texts, dropped)
  for at = 1, #dropped, IDS_AT_ONCE do
    local last = math.min(at + IDS_AT_ONCE - 1, #dropped)
    call('XDEL', log, unpack(dropped, at, last))
    call('HDEL', texts, unpack(dropped, at, last))
  end
end

-- Take records of one uuid, newest first, out of the middle of a log; its floor rises to the newest of them.
local function drop_records(kind, name, dropped)
  local holder, log, texts = log_keys(kind, name)
  delete_entries(log, texts, dropped)
  clear_payloads(kind, name, dropped)
  raise_floor(holder, tonumber(dropped[1]:match('^%d+')))
end

local function reversed(list)
  local made = {}
  for at = #list, 1, -1 do made[#made + 1] = list[at] end
  return made
end

local function weight_of(packed, record)
  return #packed + PART_BYTES * (#(record[ONLY] or {}) + #(record[EXCLUDE] or {}))
end

-- The records about a uuid in a log, oldest first. Beyond the limits, the oldest are dropped, except the first one, which is
-- mostly the message itself.
local function records_of(kind, name, uuid)
  local _, _, texts, ids = log_keys(kind, name)
  local cached = record_cache[ids .. ' ' .. uuid]
  if cached then return cached end
  local known, records, left, dropped, bytes = {}, {}, {}, {}, 0
  for id in (call('HGET', ids, uuid) or ''):gmatch('%S+') do known[#known + 1] = id end
  local function keep(id, packed)
    left[#left + 1] = id
    if not packed then return end
    local record = cmsgpack.unpack(packed)
    records[#records + 1] = record
    bytes = bytes + weight_of(packed, record)
  end
  local at, most = #known, FIRST_IDS
  while at > 1 and #left < MAX_RECORDS and bytes < MAX_RECORD_BYTES do
    local count = math.min(most, at - 1, MAX_RECORDS - #left)
    local batch = call('HMGET', texts, unpack(known, at - count + 1, at))
    use_calls(count)
    for number = count, 1, -1 do
      if bytes >= MAX_RECORD_BYTES then break end
      keep(known[at], batch[number])
      at = at - 1
    end
    most = math.min(IDS_AT_ONCE, math.ceil((MAX_RECORD_BYTES - bytes) / (bytes + 1) * #left))
  end
  for number = at, 2, -1 do dropped[#dropped + 1] = known[number] end
  if at > 0 then keep(known[1], call('HGET', texts, known[1])) end
  if #dropped > 0 then
    drop_records(kind, name, dropped)
    index_records(ids, uuid, reversed(left))
  end
  record_cache[ids .. ' ' .. uuid] = reversed(records)
  return record_cache[ids .. ' ' .. uuid]
end

local function copy(record, field, value)
  local made = { unpack(record) }
  made[field] = value
  return made
end

-- Sets by their lists, which do not change: very many records may be compared with the same list.
local sets = {}

local function set_of(names)
  if not names then return {} end
  if not sets[names] then
    local set = {}
    for _, name in ipairs(names) do set[name] = true end
    sets[names] = set
  end
  return sets[names]
end

-- Whether an entry is older than so many ms.
local function is_aged(entry, age) return tonumber(entry[2][2]) < now_ms - age end
