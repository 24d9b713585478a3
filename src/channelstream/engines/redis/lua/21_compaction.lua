-- Compaction, as in core/compaction.py: what an edit or a deletion leaves of older records. `names` are the users a change is
-- for, false for everybody.
-- Uses: 10_script, 20_records

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

local function is_edit(record) return record[KIND] == 'edit' or record[KIND] == 'early' end

-- Whether an edit has changed what a newer one leaves as it is.
local function has_more(older, newer)
  for number, part in ipairs(newer[PARTS]) do
    if part == '' and older[PARTS][number] ~= '' then return true end
  end
  return false
end

local function current(record, change)
  if not is_edit(change) then return nil end
  if record[KIND] == 'delete' then return record end
  if is_edit(record) and not has_more(record, change) then return nil end
  return copy(record, PARTS, overlay(change[PARTS], record[PARTS]))
end

-- Whether a change is an edit that takes over what an older edit has changed: that was for all its recipients. A user's log has
-- one reader.
local function takes_over(kind, change, older)
  if not is_edit(change) or not is_edit(older) then return false end
  if kind == 'u' then return true end
  if not covers(older[ONLY], change) then return false end
  local addressed, excluded = change[ONLY] and set_of(change[ONLY]), set_of(change[EXCLUDE])
  for _, name in ipairs(older[EXCLUDE] or {}) do
    if addressed and addressed[name] or not addressed and not excluded[name] then return false end
  end
  return true
end

local function present(kind, record, change)
  if kind == 'u' or covers(change[ONLY], record) then
    if takes_over(kind, change, record) then return nil end
    return current(record, change)
  end
  return without_names(record, change[ONLY], true)
end

-- The forms of a message as it is accepted after early edits, oldest first: edited for the users of each edit.
local function late_forms(record, early)
  local addressed, all, edits_of, groups, order, forms = set_of(record[ONLY]), {}, {}, {}, {}, {}
  for number, edit in ipairs(early) do
    for _, name in ipairs(edit[ONLY] or {}) do
      if not edits_of[name] and (not record[ONLY] or addressed[name]) then all[#all + 1] = name end
      edits_of[name] = (edits_of[name] or ' ') .. number .. ' '
    end
  end
  for _, name in ipairs(all) do
    local numbers = edits_of[name]
    if not groups[numbers] then
      groups[numbers] = {}
      order[#order + 1] = numbers
    end
    table.insert(groups[numbers], name)
  end
  local function add(form, numbers)
    for number, edit in ipairs(early) do
      if not edit[ONLY] or numbers:find(' ' .. number .. ' ', 1, true) then form = current(form, edit) end
    end
    forms[#forms + 1] = form
  end
  local rest = record
  if #all > 0 then rest = without_names(record, all) end
  if rest then add(rest, '') end
  for _, numbers in ipairs(order) do add(copy(record, ONLY, groups[numbers]), numbers) end
  return forms
end

-- A change with what it takes over of older records, oldest first: of two edits the newer one counts.
local function merged(kind, change, olders)
  local kept = change
  for at = #olders, 1, -1 do
    if takes_over(kind, change, olders[at]) then kept = copy(kept, PARTS, overlay(kept[PARTS], olders[at][PARTS])) end
  end
  return kept
end

-- Those users of an edit in a channel who lose what an older one has changed, unless they take it over by an edit alone, and
-- its other users.
local function who_would_lose(older, newer)
  local both, others = {}, {}
  if not is_edit(older) or not is_edit(newer) or not has_more(older, newer) then return both, newer[ONLY] end
  if takes_over('c', newer, older) or covers(newer[ONLY], older) then return both, newer[ONLY] end
  local names, excluded = set_of(older[ONLY]), set_of(older[EXCLUDE])
  for _, name in ipairs(newer[ONLY]) do
    local list = (names[name] or not older[ONLY]) and not excluded[name] and both or others
    list[#list + 1] = name
  end
  return both, others
end

-- Most parts of an edit, as in core/compaction.py: each looks at all records about its message.
local MAX_PARTS = 10

-- Divide an edit in a channel where an older one is for some of its users, and for others: the former take over that edit
-- alone. Not if its payload is big: it was published and kept for one entry only. What is not taken over is lost.
local function by_older_edits(edit, known)
  local parts, rest = {}, edit
  for _, older in ipairs(token_of(edit) and {} or known) do
    if #parts == MAX_PARTS - 1 then break end
    local both, others = who_would_lose(older, rest)
    if #both > 0 then
      parts[#parts + 1] = copy(rest, ONLY, both)
      rest = copy(rest, ONLY, others)
    end
  end
  parts[#parts + 1] = rest
  return parts
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
  local records, left, dropped, bytes = records_of(kind, name, uuid), {}, {}, 0
  local kept = merged(kind, change, records)
  for _, older in ipairs(records) do
    local form, packed, concerns = older, nil, kind == 'u' or not is_for_others(change[ONLY], older)
    if concerns then form = present(kind, older, change) end
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
    end
    local is_dropped = not form and (packed or not covers(change[ONLY], older))
    if kind == 'c' and (is_dropped or concerns and #who_would_lose(older, change) > 0) then
      -- Some users still need it, but too many are excluded, it is too much to write, or the change is not divided for them:
      -- a client that resumes from before it is sent `lost`.
      raise_floor(holder, tonumber(older[ID]:match('^%d+')))
    end
  end
  delete_entries(log, texts, dropped)
  index_records(ids, uuid, left)
  return kept, dropped
end
