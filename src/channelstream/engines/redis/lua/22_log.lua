-- Logs: what enters them, and what is dropped.
-- Uses: 10_script, 20_records, 21_compaction

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

-- Put an event into a log, given as a text, and as a record if it has one. Return the offset of the event before it that was
-- published; and whether the channel or user is known, as a limit of its log.
local function keep(kind, name, offset, uuid, text, record)
  use_bytes(#text)
  local holder, log = log_keys(kind, name)
  local last, limit, age = unpack(call('HMGET', holder, 'last', 'n', 'age'))
  if not limit then return last, limit end
  -- The new entry creates the stream of an expired log again, which would hide that older entries are missing: raise the
  -- floor first. A log whose entries were all dropped has an empty stream, which exists.
  if last and call('EXISTS', log) == 0 then raise_floor(holder, tonumber(last)) end
  local kept, dropped = record, {}
  if record and record[KIND] ~= 'message' then kept, dropped = supersede(kind, name, uuid, record) end
  store(kind, name, tonumber(limit), tonumber(age), offset, uuid, text, kept)
  clear_payloads(kind, name, dropped)
  return last, limit
end

-- Store and publish an event; return whether the channel or user is known.
local function emit(kind, name, offset, uuid, text, record)
  local last, is_known = keep(kind, name, offset, uuid, text, record)
  if is_known then call('HSET', key(kind, name), 'last', whole(offset)) end
  local token = record and token_of(record)
  -- Offset, offset of the event before it, time, token of a payload that lies beside the log, text.
  local about = { whole(offset), last or '0', whole(now_ms), token or '', text }
  call(PUBLISH, key('#' .. kind, name), table.concat(about, ' '))
  return is_known
end
