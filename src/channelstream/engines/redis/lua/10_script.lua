-- What the other files of this directory use: commands, keys, time and bounds. Each file of operations is a script, joined with
-- the files that it uses (`scripts.py`). It runs in one shard of the log and knows no other.
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
-- text, after at least one step, and its answer says how to continue (`60_table.lua`). Each step alone is bounded: it
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
-- webhooks, and where members may change: what `30_outbox.lua` says.

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
