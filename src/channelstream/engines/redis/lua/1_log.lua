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

-- A log is a stream whose ids are the log's numbers; beside it a hash finds messages by uuid. `holder` is the key of
-- the channel's or user's hash, with the fields last, floor, n (most events kept) and age (ms).
local function drop(holder, log, index, entries)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    if call('HGET', index, fields[4]) == entry[1] then call('HDEL', index, fields[4]) end
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

local function keep(holder, log, index, limit, age, seq, uuid, is_message, json)
  if limit <= 0 then
    call('HSET', holder, 'floor', whole(seq))
    return
  end
  local id = whole(seq) .. '-0'
  call('XADD', log, id, 'a', whole(now_ms), 'u', uuid, 'e', json)
  if is_message then call('HSET', index, uuid, id) end
  local over = call('XLEN', log) - limit
  if over > 0 then drop(holder, log, index, call('XRANGE', log, '-', '+', 'COUNT', over)) end
  -- Some of what is too old; whoever reads the log drops all of it.
  expire(holder, log, index, age, 100)
  -- What is quiet for long goes by itself; its floor is then its last number.
  call('PEXPIRE', log, whole(age + 60000))
  call('PEXPIRE', index, whole(age + 60000))
end

-- The keys of the two kinds of logs: c for channels, u for users.
local function log_keys(kind, name) return key(kind, name), key(kind .. 'l', name), key(kind .. 'i', name) end

-- Count the next number; `emit` is to be called for each holder the event belongs to.
local function next_seq() return call('HINCRBY', LOG, 'seq', 1) end

-- Keep and publish an event; return whether the channel or user is known.
local function emit(kind, name, seq, uuid, is_message, json)
  local holder, log, index = log_keys(kind, name)
  local known = call('HMGET', holder, 'last', 'n', 'age')
  if known[2] then
    keep(holder, log, index, tonumber(known[2]), tonumber(known[3]), seq, uuid, is_message, json)
    call('HSET', holder, 'last', whole(seq))
  end
  call(PUBLISH, key('#' .. kind, name), whole(seq) .. ' ' .. (known[1] or '0') .. ' ' .. whole(now_ms) .. ' ' .. json)
  return known[2]
end

-- Read one log after `start`: entries {seq, at, json}, or nil where it no longer reaches back.
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
    found[#found + 1] = { tonumber(entry[1]:match('^%d+')), entry[2][2], entry[2][6] }
  end
  return found
end
