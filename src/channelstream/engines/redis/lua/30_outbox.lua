-- The outbox of webhooks (`engines/outbox.py`): facts that are not sent yet, cursors, and the lease of the node that sends.
--
-- Atomic, and why. A fact about members is kept by the script that changes the membership, so a node that is killed loses
-- none, and the node that reaps it keeps those about its connections.
--
-- ARGV 9 says which facts are wanted, and the bounds; it is missing where none are, and for operations that change no
-- membership (`link.MEMBERLESS`), and then nothing of this runs: {for each application {set of kinds, prefixes of hidden
-- names}, bounds}. The bounds are the most facts and bytes of an application, and those of all together.
--
-- Keys. `facts:APP` is a stream for each application, whose ids are the numbers of its facts. The hash `outbox` has `last`
-- (the highest number), for each application `n:APP` and `bytes:APP` of the facts that are kept, `all_n` and `all_bytes`
-- of all of them, `dropped`, `token` (the highest that was seen here), and where the lease is, `granted` (the last token).
-- `passed` is the hash of the cursors, and `lease` one with `node` and `token` that expires.
--
-- Numbers begin at the time in microseconds, and never fall behind it when a log begins again (`operations.hello`). So a
-- number that a consumer has passed is not given to another fact, although data may be lost.
--
-- Nodes of an older version keep the facts of all applications in `facts`, count them in `n` and `bytes`, and have other
-- cursors, since theirs pass the facts here as well (`outbox.adopt`). They also leave `all_n` and `all_bytes` as they are,
-- so these are counted again whenever cursors are set, and before facts are dropped for them (`outbox.recount`).
-- Uses: 10_script
local outbox = { about = PREFIX .. 'outbox', cursors = PREFIX .. 'passed', lease = PREFIX .. 'lease' }

-- Facts that one command reads to drop or to adopt them, and cursors that one sets.
outbox.STEP = 50

-- The id of the application and the name in a key, as `apps/keys.py` makes it. What is before the name in the key of a member of
-- one channel is no id, so nothing is wanted about these.
function outbox.parts_of(name)
  if name:sub(1, 1) ~= '\31' then return 'default', name end
  local app, rest = name:match('^\31([^\31]*)\31(.*)$')
  if not app then return 'default', name end
  return app == '' and 'default' or app, rest
end

-- Which facts are wanted; nil where none are.
function outbox.read_settings()
  if ARGV[9] and not outbox.settings then
    outbox.settings = cmsgpack.unpack(ARGV[9])
    outbox.most = outbox.settings[2]
  end
  return outbox.settings
end

-- The application that wants a fact about a channel or a user, or nil.
function outbox.wanted_by(kind, name)
  local settings = outbox.read_settings()
  if not settings then return nil end
  local app, rest = outbox.parts_of(name)
  -- Of a user who belongs to one connection, as the mark without a channel behind it says, that connection is reported.
  if kind == 'opened' or kind == 'closed' then app = app:gsub('\30$', '') end
  local wanted = settings[1][app]
  if not wanted or not wanted[1][kind] then return nil end
  for _, prefix in ipairs(wanted[2]) do
    if rest:sub(1, #prefix) == prefix then return nil end
  end
  return app
end

-- The stream of an application.
function outbox.facts(app) return PREFIX .. 'facts:' .. app end

-- What is kept of an application: the fields last, n, bytes and dropped, and what the others keep. They are not read again while a
-- script keeps facts of the same one.
function outbox.state(app)
  local known = outbox.known
  if known and known.app == app then return known end
  local found = call('HMGET', outbox.about, 'last', 'n:' .. app, 'bytes:' .. app, 'dropped', 'all_n', 'all_bytes')
  local n, bytes = tonumber(found[2] or 0), tonumber(found[3] or 0)
  outbox.known = { app = app, last = tonumber(found[1] or time_ms * 1000), n = n, bytes = bytes, dropped = tonumber(found[4] or 0),
    other_n = math.max(tonumber(found[5] or 0) - n, 0), other_bytes = math.max(tonumber(found[6] or 0) - bytes, 0) }
  return outbox.known
end

function outbox.save(state)
  call('HSET', outbox.about, 'last', whole(state.last), 'n:' .. state.app, whole(state.n), 'bytes:' .. state.app,
    whole(state.bytes), 'dropped', whole(state.dropped), 'all_n', whole(state.other_n + state.n),
    'all_bytes', whole(state.other_bytes + state.bytes))
end

-- Drop the oldest facts up to a number, at most as many as one command reads, while `goes_on`; return how many.
function outbox.drop(state, through, goes_on)
  local facts, dropped = outbox.facts(state.app), {}
  for _, entry in ipairs(call('XRANGE', facts, '-', through, 'COUNT', outbox.STEP)) do
    if not goes_on(state) then break end
    dropped[#dropped + 1] = entry[1]
    state.n, state.bytes = state.n - 1, state.bytes - #entry[2][2]
  end
  if #dropped > 0 then call('XDEL', facts, unpack(dropped)) end
  use_calls(#dropped)
  return #dropped
end

-- Drop the facts of an application up to a number; return whether some may be left, since the script has worked for long enough.
function outbox.drop_through(app, through)
  local facts = outbox.facts(app)
  if #call('XRANGE', facts, '-', through, 'COUNT', 1) == 0 then return false end
  local state, dropped = outbox.state(app), nil
  repeat
    dropped = outbox.drop(state, through, function() return true end)
  until dropped < outbox.STEP or is_out_of_budget()
  if call('XLEN', facts) == 0 then
    call('DEL', facts)
    state.n, state.bytes = 0, 0
  end
  outbox.save(state)
  return is_out_of_budget()
end

function outbox.is_over(state) return state.n > outbox.most[1] or state.bytes > outbox.most[2] end

-- Whether all applications together keep too many bytes, or too many facts.
function outbox.is_too_big(state) return state.other_bytes + state.bytes > outbox.most[4] end
function outbox.are_too_many(state) return state.other_n + state.n > outbox.most[3] end

-- While all applications together keep too much, drop the oldest facts of the one that keeps most: many, as this reads what all keep.
-- What is left when the script has worked for long enough, as after an upgrade, is dropped with later facts.
function outbox.shrink(state)
  while (outbox.is_too_big(state) or outbox.are_too_many(state)) and not is_out_of_budget() do
    local _, largest, longest = outbox.recount()
    state = outbox.state(outbox.is_too_big(state) and largest or longest or state.app)
    if not (outbox.is_too_big(state) or outbox.are_too_many(state)) then return end
    local dropped = outbox.drop(state, '+', function() return true end)
    state.dropped = state.dropped + dropped
    -- The counts do not match the stream, as in `outbox.put`.
    if dropped == 0 then state.n, state.bytes = 0, 0 end
    outbox.save(state)
  end
end

-- Keep a fact of an application in its stored form.
function outbox.put(app, text)
  local facts, state = outbox.facts(app), outbox.state(app)
  state.last, state.n, state.bytes = state.last + 1, state.n + 1, state.bytes + #text
  call('XADD', facts, whole(state.last) .. '-0', 'f', text)
  while outbox.is_over(state) do
    local dropped = outbox.drop(state, '+', outbox.is_over)
    state.dropped = state.dropped + dropped
    -- The counts do not match the stream, where Redis has lost a part of the data.
    if dropped == 0 then state.n, state.bytes = call('XLEN', facts), 0 end
  end
  outbox.save(state)
  outbox.shrink(state)
end

-- Put the facts of nodes of an older version behind those of their applications. Such a node may have sent some of them.
function outbox.adopt()
  local older = PREFIX .. 'facts'
  if call('EXISTS', older) == 0 or not outbox.read_settings() then return end
  repeat
    local found, ids = call('XRANGE', older, '-', '+', 'COUNT', outbox.STEP), {}
    for number, entry in ipairs(found) do
      local text = entry[2][2]
      local app = outbox.parts_of(cmsgpack.unpack(text)[4])
      outbox.put(app:match('^[^\30]*'), text)
      ids[number] = entry[1]
    end
    if #found > 0 then call('XDEL', older, unpack(ids)) end
    use_calls(#found)
    if #found < outbox.STEP then
      call('DEL', older)
      call('HDEL', outbox.about, 'n', 'bytes')
      return
    end
  until is_out_of_budget()
end

-- Set the cursors of all consumers, many by one command.
function outbox.set_cursors(cursors)
  call('DEL', outbox.cursors)
  local fields = {}
  for consumer, number in pairs(cursors) do
    fields[#fields + 1], fields[#fields + 2] = consumer, number
    if #fields >= 2 * outbox.STEP then
      call('HSET', outbox.cursors, unpack(fields))
      fields = {}
    end
  end
  if #fields > 0 then call('HSET', outbox.cursors, unpack(fields)) end
end

-- Count the facts of all applications again; return the applications that have facts, the one with most bytes, and that with most
-- facts.
function outbox.recount()
  local found, apps, all, most = call('HGETALL', outbox.about), {}, { n = 0, bytes = 0 }, {}
  for at = 1, #found, 2 do
    local name, app = found[at]:match('^(%a+):(.*)$')
    local count = app and tonumber(found[at + 1]) or 0
    if count > 0 and all[name] then
      all[name] = all[name] + count
      if not most[name] or count > most[name].count then most[name] = { app = app, count = count } end
      if name == 'n' then apps[#apps + 1] = app end
    end
  end
  call('HSET', outbox.about, 'all_n', whole(all.n), 'all_bytes', whole(all.bytes))
  outbox.known = nil
  return apps, most.bytes and most.bytes.app, most.n and most.n.app
end

-- Number later facts above all that an older log may have had.
function outbox.renumber()
  local last = call('HGET', outbox.about, 'last')
  if last then call('HSET', outbox.about, 'last', whole(math.max(tonumber(last), time_ms * 1000))) end
end

-- Keep a fact of the registry, if it is wanted: about a channel or a user, and what else its type has.
function outbox.keep(kind, place, other)
  local app = outbox.wanted_by(kind, place)
  if app then outbox.put(app, cmsgpack.pack({ kind, new_id(), now_ms, place, other })) end
end
