-- The outbox of webhooks (`engines/outbox.py`): facts that are not sent yet, cursors, and the lease of the node that sends.
--
-- Atomic, and why. A fact about members is kept by the script that changes the membership, so a node that is killed loses
-- none, and the node that reaps it keeps those about its connections.
--
-- ARGV 9 says which facts are wanted, and the bounds; it is missing where none are, and for operations that change no membership
-- (`link.MEMBERLESS`), and then nothing of this runs: {for each application {set of kinds, prefixes of hidden names}, most facts,
-- most bytes}.
--
-- Keys. `facts` is a stream whose ids are the numbers of the facts. The hash `outbox` has `last` (the highest number), `n`
-- and `bytes` of the facts that are kept, `dropped`, `token` (the highest that was seen here), and where the lease is,
-- `granted` (the last token). `cursors` is a hash, and `lease` one with `node` and `token` that expires.
--
-- Numbers begin at the time in microseconds, and never fall behind it when a log begins again (`operations.hello`). So a number
-- that a consumer has passed is not given to another fact, although data may be lost.
local outbox = { facts = PREFIX .. 'facts', about = PREFIX .. 'outbox', cursors = PREFIX .. 'cursors',
  lease = PREFIX .. 'lease' }

-- Facts that one command reads to drop them.
outbox.STEP = 50

-- The id of the application and the name in a key, as `apps/keys.py` makes it. What is before the name in the key of a member of
-- one channel is no id, so nothing is wanted about these.
function outbox.parts_of(name)
  if name:sub(1, 1) ~= '\31' then return 'default', name end
  local app, rest = name:match('^\31([^\31]*)\31(.*)$')
  if not app then return 'default', name end
  return app == '' and 'default' or app, rest
end

function outbox.wants(kind, name)
  if not ARGV[9] then return false end
  outbox.settings = outbox.settings or cmsgpack.unpack(ARGV[9])
  local app, rest = outbox.parts_of(name)
  -- Of a user who belongs to one connection, as the mark without a channel behind it says, that connection is reported.
  if kind == 'opened' or kind == 'closed' then app = app:gsub('\30$', '') end
  local wanted = outbox.settings[1][app]
  if not wanted or not wanted[1][kind] then return false end
  for _, prefix in ipairs(wanted[2]) do
    if rest:sub(1, #prefix) == prefix then return false end
  end
  return true
end

-- The fields last, n, bytes and dropped, read once for each script.
function outbox.state()
  if not outbox.known then
    local found = call('HMGET', outbox.about, 'last', 'n', 'bytes', 'dropped')
    outbox.known = { last = tonumber(found[1] or time_ms * 1000), n = tonumber(found[2] or 0),
      bytes = tonumber(found[3] or 0), dropped = tonumber(found[4] or 0) }
  end
  return outbox.known
end

function outbox.save()
  local state = outbox.state()
  call('HSET', outbox.about, 'last', whole(state.last), 'n', whole(state.n), 'bytes', whole(state.bytes),
    'dropped', whole(state.dropped))
end

-- Drop the oldest facts up to a number, at most as many as one command reads, while `goes_on`; return how many.
function outbox.drop(through, goes_on)
  local state, dropped = outbox.state(), {}
  for _, entry in ipairs(call('XRANGE', outbox.facts, '-', through, 'COUNT', outbox.STEP)) do
    if not goes_on(state) then break end
    dropped[#dropped + 1] = entry[1]
    state.n, state.bytes = state.n - 1, state.bytes - #entry[2][2]
  end
  if #dropped > 0 then call('XDEL', outbox.facts, unpack(dropped)) end
  use_calls(#dropped)
  return #dropped
end

function outbox.is_over(state) return state.n > outbox.most[1] or state.bytes > outbox.most[2] end

-- Keep a fact in its stored form.
function outbox.put(text)
  local state = outbox.state()
  state.last, state.n, state.bytes = state.last + 1, state.n + 1, state.bytes + #text
  call('XADD', outbox.facts, whole(state.last) .. '-0', 'f', text)
  while outbox.is_over(state) do
    local dropped = outbox.drop('+', outbox.is_over)
    state.dropped = state.dropped + dropped
    -- The counts do not match the stream, where Redis has lost a part of the data.
    if dropped == 0 then state.n, state.bytes = call('XLEN', outbox.facts), 0 end
  end
  outbox.save()
end

-- Number later facts above all that an older log may have had.
function outbox.renumber()
  if call('EXISTS', outbox.about) == 0 then return end
  local state = outbox.state()
  state.last = math.max(state.last, time_ms * 1000)
  outbox.save()
end

-- Keep a fact of the registry, if it is wanted: about a channel or a user, and what else its type has.
function outbox.keep(kind, place, other)
  if not outbox.wants(kind, place) then return end
  outbox.most = outbox.most or { outbox.settings[2], outbox.settings[3] }
  outbox.put(cmsgpack.pack({ kind, new_id(), now_ms, place, other }))
end
