"""The Redis engine: many nodes, one log, in a Redis (6.2 or newer) or Valkey that all of them reach.

- The ports: `engine.py` has the parts and the directory, whose reads are in `sharded_reads.py`; `sharded_log.py` is the log,
  and `event_parts.py` divides what it publishes; `cluster.py`, `time_series.py` and `outbox.py` are the others.
- The shards: `address.py` reads the option `engine`, `servers.py` finds the master of each, `shards.py` is all of them.
  `shard.py` is one, made of parts: `shard_link.py` has the link, `shard_client.py` calls over it, and `refusals.py` knows
  what Redis refuses, `shard_scans.py` reads what is known, `shard_log.py` publishes and reads events, `shard_subscriber.py`
  receives, `shard_recovery.py` links again after an outage. `delivery.py` is the way from all of them to the receiver.
- A link: `link.py` is the two connections of a node with a shard, with `link_subscription.py` and `link_state.py`;
  `pending_replies.py` has the replies it waits for, `slot_move.py` what happens while its slot moves.
- Connections: `connections.py` registers them, `claims.py` moves them between nodes, `restoring.py` repairs their
  registrations; `ownership.py` and `registration_index.py` have what this node knows about them. `lease_manager.py` renews
  leases, reconnects after an outage and reaps dead nodes; `reconciler.py` makes a shard register exactly the connections of
  this node.
- The data: `event_text.py` is the form of events, `codec.py` that of the other arguments and answers; `lua/` has the scripts
  that make every step in a shard atomic, `scripts.py` joins them.
"""
