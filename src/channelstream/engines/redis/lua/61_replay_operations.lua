-- Reads several logs at once, and how far the log is.
-- Uses: 10_script, 23_reading, 60_table

function operations.head() return whole(head()) end

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
