-- Offsets, logs and time. The files of this directory are one script, joined in the order of their names. It runs in one
-- shard of the log and knows no other.
--
-- Atomic, and why. An event gets its offset, enters the logs of its channel or users, takes what it supersedes out of
-- them, and is published, all in one script. If another client could run between two of these steps, then two nodes could
-- receive events in different orders; a reader could see a head whose entry is not in the log yet, and skip it for ever;
-- or a deleted text could be read again after its deletion. The alternative, WATCH and MULTI, retries under load, on
-- exactly the channels that are busy.
--
-- Not atomic: errors. Redis does not undo the writes of a script that fails in the middle. So an operation checks what it
-- may refuse (late, another epoch, a state that is too large) before it makes its change; only a bug fails after that.
--
-- Bounded. Redis serves no other client while a script runs. So each script stops at about 5 ms, 2000 commands or 1 MiB of
-- text, after at least one step, and its answer says how to continue (`4_operations.lua`). Each step alone is bounded: it
-- trims at most 100 entries, looks at 250 records of a message, leaves 100 channels. What would take longer is left to
-- later calls: a log that is too long after a change of settings is trimmed a little by each event that enters it.
--
-- Keys. Only the prefix is declared (KEYS[1]); the others are computed, since which keys an event touches is known only
-- after reading (the users of a channel, the records of a message). That is safe because all keys begin with the prefix,
-- which has the hash tag: in a cluster they lie in one slot, and Redis routes and refuses the script by that slot. The
-- declared key never exists. So while its slot moves to another master Redis refuses the script before it has done
-- anything; one that began would stop in the middle, at the first key that is not there (`slot_move.py`).
--
-- ARGV: 1 the epoch the node knows (empty: any), 2 the time in ms (empty: that of the server, which all nodes share),
-- 3 the prefix of all keys, 4 the command that publishes, 5 the operation, 6 its arguments in MessagePack, 7 bytes to
-- pass on, 8 the deadline of the call, by the server's time in ms: a later call is refused (`link.py`), 9 only with
-- webhooks, and where members may change: what `1_outbox.lua` says.

local EPOCH, PREFIX, PUBLISH = ARGV[1], ARGV[3], ARGV[4]

local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end

-- Count work that one command does on many entries, as if each were a command.
local function use_calls(count) calls = calls + count end

local function key(kind, name) return PREFIX .. kind .. ':' .. name end
local LOG = PREFIX .. 'log'
-- The version of the data. A change of the names or contents of keys increments it.
local LAYOUT = '7'

local time = call('TIME')
local time_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_ms = tonumber(ARGV[2]) or time_ms

local function whole(number) return string.format('%.0f', number) end

-- The limits of one script: bytes read or written, time, and commands. From version 7.2 on, the time of Redis does not
-- advance within a script, so commands are counted as well: 2000 take about 5 ms.
local SLICE_BYTES, SLICE_US, SLICE_CALLS = 1048576, 5000, 2000

-- The weight of bytes that Lua itself copies, compared with bytes that only pass through, and the overhead of each field.
local COPIED, PART_BYTES = 4, 32

local used_bytes = 0
local function use_bytes(bytes) used_bytes = used_bytes + bytes end

-- The answer of a command such as HGETALL; its bytes count.
local function read_all(command, name)
  local found = call(command, name)
  for _, each in ipairs(found) do use_bytes(COPIED * (PART_BYTES + #each)) end
  return found
end

local function is_out_of_time()
  if calls >= SLICE_CALLS then return true end
  local now = call('TIME')
  return (now[1] - time[1]) * 1000000 + now[2] - time[2] >= SLICE_US
end

local function is_out_of_budget() return used_bytes >= SLICE_BYTES or is_out_of_time() end

local function head() return tonumber(call('HGET', LOG, 'seq') or '0') end

-- Redis checks its memory limit only until the first write of a script. So a script that frees more memory than it takes,
-- such as leaving, begins with a write that Redis never refuses, and then runs even when Redis is full. If `is_full`, it
-- leaves out the optional parts: lists of users.
local is_full = false

local function detect_full()
  local nothing = PREFIX .. 'nothing'
  is_full = type(redis.pcall('SETRANGE', nothing, 0, '')) == 'table'
  call('DEL', nothing)
end

local made = 0
-- A UUID in the form of version 4, made from the epoch and a counter.
local function new_id()
  made = made + 1
  local hex = redis.sha1hex(EPOCH .. call('HINCRBY', LOG, 'ids', 1) .. ':' .. made)
  return hex:sub(1, 8) .. '-' .. hex:sub(9, 12) .. '-4' .. hex:sub(14, 16) .. '-a' .. hex:sub(18, 20) .. '-'
    .. hex:sub(21, 32)
end

-- A log is a stream whose ids are the offsets of its events. Its entries have no text, so reading offsets costs the same
-- whatever the events are. The texts are in a hash beside it, by the id of the entry: a body for presence and states, and a
-- packed record for messages, edits and deletions, which is overwritten by the script that supersedes it. Another hash has
-- the ids of the records of each uuid. `holder` is the key of the channel's or user's hash, with the fields last (offset
-- of the last event), floor (the log is complete after it), n (most entries) and age (ms).

-- A record: the id of its entry, kind, the JSON that the node has made of the other fields, without its closing brace, two lists
-- of users or false, and parts as JSON texts, empty where missing. A big payload lies beside the log: its part is a table with
-- its token.
local ID, KIND, HEAD, ONLY, EXCLUDE, PARTS = 1, 2, 3, 4, 5, 6
local PAYLOAD = 2
local MAX_EXCLUDED = 1000

-- Texts of events that nodes receive and read are packed, and the nodes format JSON: `codec.read_event` has the three forms.
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

-- An edit that is accepted before its message is early (core/acceptance.py): the ids of its uuid have this mark beside them.
local function early_mark(uuid) return '?' .. uuid end

-- Mark that a log has edits of a message, and has never had the message; nothing if it keeps no events.
local function mark_early(kind, name, uuid)
  local ids = key(kind .. 'x', name)
  if call('HEXISTS', ids, uuid) == 1 then call('HSET', ids, early_mark(uuid), '') end
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
-- these bytes, so that there are never more than twice as many to read.
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
    bytes = bytes + #(packed or '')
    if packed then records[#records + 1] = cmsgpack.unpack(packed) end
  end
  local at, most = #known, FIRST_IDS
  while at > 1 and #left < MAX_RECORDS and bytes < MAX_RECORD_BYTES do
    local count = math.min(most, at - 1, MAX_RECORDS - #left)
    local batch = call('HMGET', texts, unpack(known, at - count + 1, at))
    use_calls(count)
    for number = count, 1, -1 do keep(known[at - count + number], batch[number]) end
    at = at - count
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

-- -- compaction, as in core/compaction.py: `names` are the users a change is for, false for everybody

local function covers(names, record)
  if not names then return true end
  if not record[ONLY] then return false end
  local dropped, excluded = set_of(names), set_of(record[EXCLUDE])
  for _, name in ipairs(record[ONLY]) do
    if not dropped[name] and not excluded[name] then return false end
  end
  return true
end

local function without_names(record, names, bounded)
  if covers(names, record) then return nil end
  local left = {}
  if record[ONLY] then
    local dropped = set_of(names)
    for _, name in ipairs(record[ONLY]) do
      if not dropped[name] then left[#left + 1] = name end
    end
    return #left == #record[ONLY] and record or copy(record, ONLY, left)
  end
  local excluded = set_of(record[EXCLUDE])
  for _, name in ipairs(record[EXCLUDE] or {}) do left[#left + 1] = name end
  for _, name in ipairs(names) do
    if not excluded[name] then left[#left + 1] = name end
  end
  local grows = #left > #(record[EXCLUDE] or {})
  if bounded and grows and #left > MAX_EXCLUDED then return nil end
  return grows and copy(record, EXCLUDE, left) or record
end

local function affects(names, record)
  if covers(names, record) then return true end
  local known = set_of(record[ONLY] or record[EXCLUDE])
  for _, name in ipairs(names) do
    if (known[name] or false) == (record[ONLY] and true or false) then return true end
  end
  return false
end

-- The parts of a newer record, and those of an older one where the newer has none.
local function overlay(newer, older)
  local parts = {}
  for number, part in ipairs(newer) do parts[number] = part ~= '' and part or older[number] end
  return parts
end

local function current(record, change)
  if change[KIND] == 'edit' then
    if record[KIND] == 'message' then return copy(record, PARTS, overlay(change[PARTS], record[PARTS])) end
    return record[KIND] == 'delete' and record or nil
  end
  return nil
end

local function present(record, change)
  if covers(change[ONLY], record) then return current(record, change) end
  return without_names(record, change[ONLY], true)
end

-- The forms of a message as it is accepted after early edits: edited for the users of each edit. Each user has one at most.
local function late_forms(record, early)
  local names, all, for_everybody, forms = set_of(record[ONLY]), {}, {}, {}
  for _, edit in ipairs(early) do
    local addressed = {}
    for _, name in ipairs(edit[ONLY] or {}) do
      all[#all + 1] = name
      if not record[ONLY] or names[name] then addressed[#addressed + 1] = name end
    end
    if #addressed > 0 then forms[#forms + 1] = copy(current(record, edit), ONLY, addressed) end
    if not edit[ONLY] then for_everybody[#for_everybody + 1] = edit end
  end
  local rest = record
  if #all > 0 then rest = without_names(record, all) end
  for _, edit in ipairs(rest and for_everybody or {}) do rest = current(rest, edit) end
  forms[#forms + 1] = rest
  return forms
end

local function merged(change, older)
  if change[KIND] ~= 'edit' or older[KIND] ~= 'edit' or not covers(older[ONLY], change) then return change end
  return copy(change, PARTS, overlay(change[PARTS], older[PARTS]))
end

-- Whether a change for some users concerns nobody who receives a record: mostly one that was made for other users.
local function is_for_others(names, record)
  if not names or not record[ONLY] then return false end
  local changed = set_of(names)
  for _, name in ipairs(record[ONLY]) do
    if changed[name] then return false end
  end
  return true
end

-- Replace the records that a change supersedes by their current form. Return the change as the log stores it, and the ids
-- that were dropped; the caller clears their payloads last, since the stored change may have taken one over. A user's log
-- has one reader, so a change supersedes everything in it.
local function supersede(kind, name, uuid, change)
  local holder, log, texts, ids = log_keys(kind, name)
  local left, dropped, kept, bytes = {}, {}, change, 0
  for _, older in ipairs(records_of(kind, name, uuid)) do
    local form, packed = older
    if kind == 'u' or not is_for_others(change[ONLY], older) then
      kept = merged(kept, older)
      if kind == 'u' then form = current(older, change) else form = present(older, change) end
    end
    if form and form ~= older then
      packed = cmsgpack.pack(form)
      bytes = bytes + #packed
      -- A channel may have had the message for many users one after the other, and each gets the new payload.
      if kind == 'c' and bytes > MAX_RECORD_BYTES then form = nil end
    end
    if form then
      left[#left + 1] = older[ID]
      if packed then
        call('HSET', texts, older[ID], packed)
        if token_of(form) ~= token_of(older) then set_payload(kind, name, older[ID], token_of(form)) end
      end
    else
      dropped[#dropped + 1] = older[ID]
      if kind == 'c' and (packed or not covers(change[ONLY], older)) then
        -- Some users still need it, but too many are excluded or it is too much to write: a client that resumes from before
        -- it is sent `lost`.
        raise_floor(holder, tonumber(older[ID]:match('^%d+')))
      end
    end
  end
  delete_entries(log, texts, dropped)
  index_records(ids, uuid, left)
  return kept, dropped
end

-- -- logs

-- Most entries dropped in one step: fewer where some have big payloads, whose memory takes long to free.
local function drop_limit(kind, name) return call('EXISTS', payload_keys(kind, name)[2]) == 1 and 10 or 100 end

local function uuid_of(entry) return entry[2][4] end

-- Remove dropped entries from the ids of a uuid.
local function unindex(ids, uuid, dropped)
  local left = {}
  for id in (call('HGET', ids, uuid) or ''):gmatch('%S+') do
    if not dropped[id] then left[#left + 1] = id end
  end
  index_records(ids, uuid, left)
end

-- Drop the oldest entries of a log.
local function drop_oldest(kind, name, entries)
  local holder, log, texts, ids = log_keys(kind, name)
  local dropped, by_uuid = {}, {}
  for number, entry in ipairs(entries) do
    local uuid = uuid_of(entry)
    dropped[number] = entry[1]
    if uuid then
      by_uuid[uuid] = by_uuid[uuid] or {}
      by_uuid[uuid][entry[1]] = true
    end
  end
  for uuid, ids_of_it in pairs(by_uuid) do unindex(ids, uuid, ids_of_it) end
  call('HDEL', texts, unpack(dropped))
  clear_payloads(kind, name, dropped)
  local last = tonumber(dropped[#dropped]:match('^%d+'))
  call('XTRIM', log, 'MINID', whole(last + 1) .. '-0')
  raise_floor(holder, last)
end

-- Drop some entries beyond the limit of a log; return whether there are more.
local function trim_to_limit(kind, name, limit)
  local _, log = log_keys(kind, name)
  local excess = call('XLEN', log) - limit
  if excess <= 0 then return false end
  local most = drop_limit(kind, name)
  drop_oldest(kind, name, call('XRANGE', log, '-', '+', 'COUNT', math.min(excess, most)))
  return excess > most
end

local function is_aged(entry, age) return tonumber(entry[2][2]) < now_ms - age end

-- Drop some entries that are too old.
local function trim_aged(kind, name, age)
  local _, log = log_keys(kind, name)
  -- Mostly this look at the oldest entry is all.
  local first = call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not first or not is_aged(first, age) then return end
  local aged = {}
  for _, entry in ipairs(call('XRANGE', log, '-', '+', 'COUNT', drop_limit(kind, name))) do
    if not is_aged(entry, age) then break end
    aged[#aged + 1] = entry
  end
  drop_oldest(kind, name, aged)
end

-- A quiet log expires as a whole. Its last offset then counts as its floor: see `read_log`, and `emit` when it is used
-- again.
local function extend_expiry(kind, name, age)
  local _, log, texts, ids = log_keys(kind, name)
  for _, each in ipairs({ log, texts, ids, unpack(payload_keys(kind, name)) }) do call('PEXPIRE', each, whole(age + 60000)) end
end

-- Store an event: a record, or a text for an event that has none.
local function store(kind, name, limit, age, offset, uuid, text, record)
  local holder, log, texts, ids = log_keys(kind, name)
  if limit <= 0 then
    call('HSET', holder, 'floor', whole(offset))
    return
  end
  local id = whole(offset) .. '-0'
  if record then
    record_cache[ids .. ' ' .. uuid] = nil
    local known = call('HGET', ids, uuid)
    call('HSET', ids, uuid, known and known .. ' ' .. id or id)
    call('HSET', texts, id, cmsgpack.pack(copy(record, ID, id)))
    call('XADD', log, id, 'a', whole(now_ms), 'u', uuid)
    if token_of(record) then set_payload(kind, name, id, token_of(record)) end
  else
    call('HSET', texts, id, text)
    call('XADD', log, id, 'a', whole(now_ms))
  end
  -- Not everything that is too much or too old: the next event drops some more.
  trim_to_limit(kind, name, limit)
  trim_aged(kind, name, age)
  extend_expiry(kind, name, age)
end

-- Assign the next offset; the caller then calls `emit` for each log the event belongs to.
local function next_offset() return call('HINCRBY', LOG, 'seq', 1) end

-- Store and publish an event, given as a text, and as a record if it has one; return whether the channel or user is known.
local function emit(kind, name, offset, uuid, text, record)
  local holder, log = log_keys(kind, name)
  local known = call('HMGET', holder, 'last', 'n', 'age')
  if known[2] then
    -- The new entry creates the stream of an expired log again, which would hide that older entries are missing: raise the
    -- floor first. A log whose entries were all dropped has an empty stream, which exists.
    if known[1] and call('EXISTS', log) == 0 then raise_floor(holder, tonumber(known[1])) end
    local kept, dropped = record, {}
    if record and record[KIND] ~= 'message' then kept, dropped = supersede(kind, name, uuid, record) end
    store(kind, name, tonumber(known[2]), tonumber(known[3]), offset, uuid, text, kept)
    clear_payloads(kind, name, dropped)
    call('HSET', holder, 'last', whole(offset))
  end
  local token = record and token_of(record)
  use_bytes(#text)
  -- Offset, offset of the event before it, time, token of a payload that lies beside the log, text.
  local about = { whole(offset), known[1] or '0', whole(now_ms), token or '', text }
  call(PUBLISH, key('#' .. kind, name), table.concat(about, ' '))
  return known[2]
end

-- The answer about a record: offset, time, text, and the key and token of a payload beside the log. Nil if that payload is
-- missing.
local function encode_record(record, kind, name, offset, at)
  local text, token = text_of(record), token_of(record)
  use_bytes(COPIED * #text)
  if not token then return { offset, at, text } end
  local payloads = payload_keys(kind, name)[1]
  local bytes = call('HSTRLEN', payloads, token)
  use_bytes(bytes)
  if bytes > 0 then return { offset, at, text, payloads, token } end
end

-- The answer about one form of an entry. A private message names the users in whose logs it has this form.
local function encode_form(text, kind, name, offset, at, users)
  if text:byte(1) ~= RECORD_BYTE then
    use_bytes(COPIED * #text)
    return { offset, at, text }
  end
  local record = cmsgpack.unpack(text)
  return encode_record(kind == 'u' and copy(record, ONLY, users) or record, kind, name, offset, at)
end

-- Add the entries of one offset, in their current form, to `entries`, and the logs where one is missing to `lost`. `group`
-- has them for each log: {offset, kind, name, id, at, log}. After an edit or a deletion for some of its users, a private
-- message has several forms; each is answered once.
local function add_forms(group, entries, lost)
  local forms, by_text = {}, {}
  for _, each in ipairs(group) do
    local _, _, texts = log_keys(each[2], each[3])
    local text = call('HGET', texts, each[4])
    if not text then
      lost[#lost + 1] = each[6]
    else
      use_bytes(#text)
      local form = by_text[text] or { first = each, text = text, users = {}, logs = {} }
      if not by_text[text] then forms[#forms + 1] = form end
      by_text[text] = form
      form.users[#form.users + 1], form.logs[#form.logs + 1] = each[3], each[6]
    end
  end
  for _, form in ipairs(forms) do
    local offset, kind, name, _, at = unpack(form.first)
    local entry = encode_form(form.text, kind, name, whole(offset), at, form.users)
    if entry then entries[#entries + 1] = entry end
    for _, log in ipairs(entry and {} or form.logs) do lost[#lost + 1] = log end
  end
end

-- The state of a log: its last offset, its age limit and its floor.
local function log_state(kind, name) return call('HMGET', key(kind, name), 'last', 'age', 'floor') end

-- Return the entries of one log after `start` and up to `read_to`, or nil if it no longer reaches back to `start`. Entries
-- that are too old count as dropped. Reading never drops any, so its cost does not depend on how much is too old.
local function read_log(kind, name, known, start, read_to, count)
  if not known[2] then return nil end
  local last, floor = tonumber(known[1] or '0'), tonumber(known[3] or '0')
  -- Most logs have nothing new.
  if known[1] and start >= last then return {} end
  local _, log = log_keys(kind, name)
  local entries = call('XRANGE', log, whole(start + 1) .. '-0', whole(read_to) .. '-0', 'COUNT', count)
  if not entries[1] and call('EXISTS', log) == 0 then floor = math.max(floor, last) end
  if start < floor or entries[1] and is_aged(entries[1], tonumber(known[2])) then return nil end
  return entries
end
