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

-- Whether a change for some users concerns nobody who receives a record: mostly one that was made for other users.
local function is_for_others(names, record)
  if not names then return false end
  local known, some = set_of(record[ONLY] and names or record[EXCLUDE]), record[ONLY] and true or false
  for _, name in ipairs(record[ONLY] or names) do
    if (known[name] or false) == some then return false end
  end
  return true
end

-- The parts of a newer record, and those of an older one where the newer has none; and whether there are any.
local function overlay(newer, older)
  local parts, has_more = {}, false
  for number, part in ipairs(newer) do
    parts[number] = part ~= '' and part or older[number]
    has_more = has_more or parts[number] ~= part
  end
  return parts, has_more
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

-- Whether a record is for all users whom another one names; those whom that excludes count as well.
local function names_all_of(record, other) return covers(record[ONLY], other[ONLY] and copy(other, EXCLUDE, false) or other) end

-- Whether an older edit was for all users of a newer one; also for those whom both exclude.
local function is_for_all_of(older, edit)
  if not names_all_of(older, edit) then return false end
  local addressed, excluded = edit[ONLY] and set_of(edit[ONLY]), set_of(edit[EXCLUDE])
  for _, name in ipairs(older[EXCLUDE] or {}) do
    if not excluded[name] and (not addressed or addressed[name]) then return false end
  end
  return true
end

-- A change as the log keeps it: an edit takes over what an older edit for some of its recipients has changed. The second result
-- says that it cannot, as the older edit was not for all of them. A user's log has one reader.
local function merged(kind, change, older)
  if change[KIND] ~= 'edit' or older[KIND] ~= 'edit' then return change, false end
  local parts, has_more = overlay(change[PARTS], older[PARTS])
  if not has_more then return change, false end
  if kind == 'c' and not is_for_all_of(older, change) then return change, true end
  return copy(change, PARTS, parts), false
end

-- Replace the records that a change supersedes by their current form. Return the change as the log stores it, and the ids
-- that were dropped; the caller clears their payloads last, since the stored change may have taken one over. A user's log
-- has one reader, so a change supersedes everything in it.
local function supersede(kind, name, uuid, change)
  local holder, log, texts, ids = log_keys(kind, name)
  local left, dropped, kept, bytes, lost = {}, {}, change, 0, nil
  for _, older in ipairs(records_of(kind, name, uuid)) do
    local form, packed, is_lost = older
    if kind == 'u' or not is_for_others(change[ONLY], older) then
      kept, is_lost = merged(kind, kept, older)
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
      is_lost = is_lost or kind == 'c' and (packed or not covers(change[ONLY], older))
    end
    -- Some users still need it, but too many are excluded, it is too much to write, or only some users may see what it has
    -- changed: a client that resumes from before it is sent `lost`.
    if is_lost then lost = older[ID] end
  end
  if lost then raise_floor(holder, tonumber(lost:match('^%d+'))) end
  delete_entries(log, texts, dropped)
  index_records(ids, uuid, left)
  return kept, dropped
end
