"""The Redis engine: many nodes, one log, in a Redis (6.2 or newer) or Valkey that all of them reach.

`engine.py` is the port. `address.py` tells where the shards of the log are, `shard.py` is one of them, `shards.py` all;
`connections.py` has what concerns connections, which several shards count (`stakes.py`). `link.py` is the two connections a
node has with each shard, `notes.py` what it waits to be told, `keeper.py` leases and the way back after an outage,
`reconciler.py` what makes a shard count exactly the connections that the node holds,
`codec.py` the form of events and answers, `lua/` the script that does every step in a shard atomically.
"""
