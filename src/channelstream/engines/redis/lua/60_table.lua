-- The operations that the engine calls, by name; `a` has the arguments that the engine has packed.
--
-- Terms. This script runs in one shard of the log, and knows no other shard. The directory of a connection is the shard
-- of its id: it stores which node owns the connection, and lists the other shards that register the connection. The
-- home of a user is the shard of the user's name: it has the user's state, of which other shards have copies. A node
-- that is about to claim a connection (to become its owner) first reserves it: each shard then registers the connection
-- for this node as well as for the owner. Each node renews a lease. When the lease of a node has ended, other nodes
-- reap that node: they unregister its connections.
--
-- Limits. Each call is one atomic step, within the limits of `10_script.lua`. If a call cannot finish within these limits, its
-- answer tells the caller how to go on. There are three kinds of such an answer:
--   AGAIN: the caller repeats the same call. An operation returns AGAIN in two cases: an earlier call, perhaps of another
--     operation, has left work unfinished, and this call could only continue that work; or this call has done only a part of
--     its own work. The repeated call skips the finished part. Before the next call the caller waits until its node has
--     received what this step published (`ShardClient.step`).
--   A count: the operation has done this many items of its list. The caller sends the others.
--   An offset or a cursor: the caller continues after it.
-- Between two calls Redis serves other clients. So each item of a list is atomic, but the list is not.
--
-- Refusals. Before an operation runs, the code in `70_run.lua` may refuse the call for two reasons. LATE: the
-- deadline of the call has passed, so its caller has given it up. A call that has failed therefore never runs later. EPOCH:
-- the log is not the one that the caller knows. A node therefore never writes into a log whose offsets it would misread. A
-- payload that came with a refused call is deleted. Both checks are in the script: a failover could come between an earlier
-- check and the script.
-- Uses: 10_script
local AGAIN = 'again'

local operations = {}

-- The operations that run even when Redis is full: they free memory, or keep nodes and their connections alive.
local FREEING = {
  leave = true, disconnect = true, reap = true, collect = true, beat = true, claim = true, reserve = true, follow = true,
  spread = true, settle = true, hold = true, release_lease = true, stop = true,
}

-- Publish a mark to the calling node, if it asks for one. When the mark arrives there, everything published before the
-- mark has arrived too.
local function publish_mark(a)
  if a.mark then call(PUBLISH, key('#n', a.node), 'mark ' .. a.mark .. ' ' .. whole(head())) end
end
