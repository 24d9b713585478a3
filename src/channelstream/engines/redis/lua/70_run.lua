-- The call: it is refused, or its operation runs.
-- Uses: 10_script, 20_records, 60_table

-- Refuse a call, and delete the payloads that came with it.
local function refuse(a, reason)
  for _, event in ipairs(a.events or {}) do drop_unreferenced(event) end
  return redis.error_reply(reason)
end

local arguments = cmsgpack.unpack(ARGV[6])
if time_ms >= tonumber(ARGV[8]) then return refuse(arguments, 'LATE the caller has given this call up') end
if EPOCH ~= '' and call('HGET', LOG, 'epoch') ~= EPOCH then return refuse(arguments, 'EPOCH the log is another one') end
if FREEING[ARGV[5]] then detect_full() end
local answer = operations[ARGV[5]](arguments) or false
if type(answer) == 'table' and answer.err then return answer end
-- The node uses this time to estimate how far the clock of Redis is ahead of the node's clock.
return { whole(time_ms), answer }
