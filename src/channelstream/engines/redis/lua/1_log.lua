-- Numbers, logs and time. The files of this directory are one script, joined in the order of their names. It runs in one
-- shard of the log and knows of no other.
-- ARGV: the epoch the node knows (empty: any), now in ms (empty: the server's time, which all nodes share),
-- the prefix of all keys, the command that publishes, the operation, its arguments in MessagePack, bytes to hand
-- on, and until when, by the server's time in ms, the node waits for the answer: what comes later has been given up.

local EPOCH, PREFIX, PUBLISH = ARGV[1], ARGV[3], ARGV[4]
local call = redis.call

local function key(kind, name) return PREFIX .. kind .. ':' .. name end
local LOG = PREFIX .. 'log'

local time = call('TIME')
local time_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_ms = tonumber(ARGV[2]) or time_ms

local function whole(number) return string.format('%.0f', number) end

local function head() return tonumber(call('HGET', LOG, 'seq') or '0') end

local made = 0
-- A UUID in the form of version 4, from what never repeats.
local function new_id()
  made = made + 1
  local hex = redis.sha1hex(EPOCH .. call('HINCRBY', LOG, 'ids', 1) .. ':' .. made)
  return hex:sub(1, 8) .. '-' .. hex:sub(9, 12) .. '-4' .. hex:sub(14, 16) .. '-a' .. hex:sub(18, 20) .. '-'
    .. hex:sub(21, 32)
end

-- A log is a stream whose ids are the log's numbers. Presence and states are in its entries (field e). Messages, edits and
-- deletions are not, since an entry can neither be changed nor be deleted without a trace: they are records in a hash beside
-- it, by uuid, where what is superseded is overwritten in the step that supersedes it. `holder` is the key of the channel's or
-- user's hash, with the fields last, floor, n (most events kept) and age (ms).

-- A record: the id of its entry, kind, JSON without what follows and without its closing brace, lists of users or false, and
-- parts as JSON texts, empty where there are none.
local ID, KIND, HEAD, ONLY, EXCLUDE, PARTS = 1, 2, 3, 4, 5, 6
local PART_NAMES = { 'user', 'payload', 'timestamp', 'edited' }
local MAX_EXCLUDED = 1000

local function json_of(record)
  local texts = { record[HEAD] }
  if record[ONLY] then texts[#texts + 1] = ',"only":' .. cjson.encode(record[ONLY]) end
  if record[EXCLUDE] then texts[#texts + 1] = ',"exclude":' .. cjson.encode(record[EXCLUDE]) end
  for number, name in ipairs(PART_NAMES) do
    local part = record[PARTS][number]
    if part ~= '' then texts[#texts + 1] = ',"' .. name .. '":' .. part end
  end
  return table.concat(texts) .. '}'
end

-- All records about a uuid that a log has, oldest first.
local function about(index, uuid)
  local packed = call('HGET', index, uuid)
  return packed and cmsgpack.unpack(packed) or {}
end

local function note(index, uuid, records)
  if #records == 0 then call('HDEL', index, uuid) else call('HSET', index, uuid, cmsgpack.pack(records)) end
end

local function copy(record, field, value)
  local made = { unpack(record) }
  made[field] = value
  return made
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names or {}) do set[name] = true end
  return set
end

-- -- compaction, as in core/compaction.py: `names` are those a change is about, false for everybody

local function covers(names, record)
  if not names then return true end
  if not record[ONLY] then return false end
  local gone, excluded = set_of(names), set_of(record[EXCLUDE])
  for _, name in ipairs(record[ONLY]) do
    if not gone[name] and not excluded[name] then return false end
  end
  return true
end

local function without_names(record, names)
  if covers(names, record) then return nil end
  local left = {}
  if record[ONLY] then
    local gone = set_of(names)
    for _, name in ipairs(record[ONLY]) do
      if not gone[name] then left[#left + 1] = name end
    end
    return copy(record, ONLY, left)
  end
  local excluded = set_of(record[EXCLUDE])
  for _, name in ipairs(record[EXCLUDE] or {}) do left[#left + 1] = name end
  for _, name in ipairs(names) do
    if not excluded[name] then left[#left + 1] = name end
  end
  return #left <= MAX_EXCLUDED and copy(record, EXCLUDE, left) or nil
end

local function affects(names, record)
  if covers(names, record) then return true end
  local known = set_of(record[ONLY] or record[EXCLUDE])
  for _, name in ipairs(names) do
    if (known[name] or false) == (record[ONLY] and true or false) then return true end
  end
  return false
end

-- The parts of an older record, with those of a newer one that it has.
local function over(newer, older)
  local parts = {}
  for number, part in ipairs(newer) do parts[number] = part ~= '' and part or older[number] end
  return parts
end

local function current(record, change)
  if change[KIND] == 'edit' then
    if record[KIND] == 'message' then return copy(record, PARTS, over(change[PARTS], record[PARTS])) end
    return record[KIND] == 'delete' and record or nil
  end
  return nil
end

local function present(record, change)
  if covers(change[ONLY], record) then return current(record, change) end
  return without_names(record, change[ONLY])
end

local function merged(change, older)
  if change[KIND] ~= 'edit' or older[KIND] ~= 'edit' or not covers(older[ONLY], change) then return change end
  return copy(change, PARTS, over(change[PARTS], older[PARTS]))
end

-- Leave of what a change supersedes in a log its present form; return the change as the log keeps it. A user's log is of one
-- user, so what is in it is superseded for everybody.
local function supersede(kind, log, index, uuid, change)
  local left, kept = {}, change
  for _, older in ipairs(about(index, uuid)) do
    kept = merged(kept, older)
    local form
    if kind == 'u' then form = current(older, change) else form = present(older, change) end
    if form then left[#left + 1] = form else call('XDEL', log, older[ID]) end
  end
  note(index, uuid, left)
  return kept
end

-- -- logs

local function drop(holder, log, index, entries)
  for _, entry in ipairs(entries) do
    local id, uuid = entry[1], entry[2][4]
    if not entry[2][6] then
      local left = {}
      for _, record in ipairs(about(index, uuid)) do
        if record[ID] ~= id then left[#left + 1] = record end
      end
      note(index, uuid, left)
    end
  end
  local last = entries[#entries][1]
  call('XTRIM', log, 'MINID', whole(tonumber(last:match('^%d+')) + 1) .. '-0')
  call('HSET', holder, 'floor', (last:match('^%d+')))
end

local function expire(holder, log, index, age, limit)
  -- Only a look at the oldest, unless that is too old.
  local first = call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not first or tonumber(first[2][2]) >= now_ms - age then return false end
  local entries = call('XRANGE', log, '-', '+', 'COUNT', limit)
  local aged = {}
  for _, entry in ipairs(entries) do
    if tonumber(entry[2][2]) >= now_ms - age then break end
    aged[#aged + 1] = entry
  end
  if #aged > 0 then drop(holder, log, index, aged) end
  return #aged == limit
end

-- Keep an event: a record, or the JSON of what is none.
local function keep(holder, log, index, limit, age, seq, uuid, json, record)
  if limit <= 0 then
    call('HSET', holder, 'floor', whole(seq))
    return
  end
  local id = whole(seq) .. '-0'
  if record then
    local records = about(index, uuid)
    records[#records + 1] = copy(record, ID, id)
    note(index, uuid, records)
    call('XADD', log, id, 'a', whole(now_ms), 'u', uuid)
  else
    call('XADD', log, id, 'a', whole(now_ms), 'u', uuid, 'e', json)
  end
  local over = call('XLEN', log) - limit
  if over > 0 then drop(holder, log, index, call('XRANGE', log, '-', '+', 'COUNT', over)) end
  -- Some of what is too old; whoever reads the log drops all of it.
  expire(holder, log, index, age, 100)
  -- What is quiet for long goes by itself; its floor is then its last number.
  call('PEXPIRE', log, whole(age + 60000))
  call('PEXPIRE', index, whole(age + 60000))
end

-- The keys of the two kinds of logs: c for channels, u for users.
local function log_keys(kind, name) return key(kind, name), key(kind .. 'l', name), key(kind .. 'r', name) end

-- Count the next number; `emit` is to be called for each holder the event belongs to.
local function next_seq() return call('HINCRBY', LOG, 'seq', 1) end

-- Keep and publish an event, given as JSON, and as a record too where it is one; return whether the channel or user is known.
local function emit(kind, name, seq, uuid, json, record)
  local holder, log, index = log_keys(kind, name)
  local known = call('HMGET', holder, 'last', 'n', 'age')
  if known[2] then
    if record and record[KIND] ~= 'message' then record = supersede(kind, log, index, uuid, record) end
    keep(holder, log, index, tonumber(known[2]), tonumber(known[3]), seq, uuid, json, record)
    call('HSET', holder, 'last', whole(seq))
  end
  call(PUBLISH, key('#' .. kind, name), whole(seq) .. ' ' .. (known[1] or '0') .. ' ' .. whole(now_ms) .. ' ' .. json)
  return known[2]
end

-- The JSON of an entry of a log as it is now; nil where it is gone though it should not be.
local function text_of(index, entry)
  if entry[2][6] then return entry[2][6] end
  for _, record in ipairs(about(index, entry[2][4])) do
    if record[ID] == entry[1] then return json_of(record) end
  end
end

-- Read one log after `start`: entries {seq, at, json} in their present form, or nil where it no longer reaches back.
local function read(kind, name, start, count)
  local holder, log, index = log_keys(kind, name)
  local known = call('HMGET', holder, 'last', 'floor', 'age')
  if not known[3] then return nil end
  while expire(holder, log, index, tonumber(known[3]), 100) do end
  local floor = tonumber(call('HGET', holder, 'floor') or '0')
  if call('EXISTS', log) == 0 then floor = math.max(floor, tonumber(known[1] or '0')) end
  if start < floor then return nil end
  local found = {}
  for _, entry in ipairs(call('XRANGE', log, whole(start + 1) .. '-0', '+', 'COUNT', count)) do
    local json = text_of(index, entry)
    if not json then return nil end
    found[#found + 1] = { tonumber(entry[1]:match('^%d+')), entry[2][2], json }
  end
  return found
end
