"""The Redis engine: many nodes, one log, in a Redis (6.2 or newer) or Valkey that all of them reach.

`engine.py` is the port, `link.py` the two connections a node has with Redis, `keeper.py` leases and the way back after an
outage, `codec.py` the form of events and answers, `lua/` the script that does every step of the log atomically.
"""
