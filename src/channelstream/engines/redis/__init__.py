"""The Redis engine: many nodes, one log, in a Redis (6.2 or newer) or Valkey that all of them reach.

`engine.py` is the log and the directory, `event_parts.py` divides what it publishes, `cluster.py` is the cluster.
`address.py` finds the shards of the log, `shard.py` is one of them, `shards.py` all of them.
`connections.py` registers connections and moves them between nodes, `registration_index.py` knows which shards have
them. `link.py` is the two connections of a node with a shard, `pending_replies.py` the replies it waits for.
`lease_manager.py` renews leases, reconnects after an outage and reaps dead nodes; `reconciler.py` makes a shard register
exactly the connections of this node. `codec.py` is the form of events and answers, `lua/` the script that makes every
step in a shard atomic.
"""
