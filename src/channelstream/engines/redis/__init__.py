"""The Redis engine: many nodes, one log, in a Redis (6.2 or newer) or Valkey that all of them reach.

`engine.py` is the directory, `sharded_reads.py` its reads; `sharded_log.py` is the log, `event_parts.py` divides what it
publishes; `cluster.py` is the cluster.
`address.py` finds the shards of the log, `shards.py` is all of them. `shard.py` is one of them, made of parts:
`shard_client.py` calls, `shard_scans.py` reads what is known, `shard_log.py` publishes and reads events,
`shard_subscriber.py` receives, `shard_recovery.py` links again after an outage. `link.py` is the two connections of a node
with a shard, with `link_subscription.py` and `link_state.py`;
`slot_move.py` what happens while its slot moves, `pending_replies.py` the replies it waits for, `delivery.py` the way to the
receiver.
`connections.py` registers connections, `claims.py` moves them between nodes, `restoring.py` repairs their registrations;
`ownership.py` and `registration_index.py` have what this node knows about them. `lease_manager.py` renews leases,
reconnects after an outage and reaps dead nodes; `reconciler.py` makes a shard register exactly the connections of this
node. `codec.py` is the form of events and answers, `lua/` the scripts that make every step in a shard atomic, `scripts.py`
how they are joined.
"""
