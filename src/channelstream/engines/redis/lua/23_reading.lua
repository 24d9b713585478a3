-- Reads logs, and encodes their entries for answers.
-- Uses: 10_script, 20_records

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
