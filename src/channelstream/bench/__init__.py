"""The load generator: clients, publishers and a probe that measure a running server from outside.

It speaks plain protocols over sockets and imports nothing of the server that it measures, but its errors and TLS
settings; nothing that serves imports it. `stamps`, `inbound`, `checker`, `histogram` and `chart` are pure; `worker` is a
process of clients; `measure` controls one run.

Programs of their own are `peers`, which compares other servers with this one (`make bench-peers`), `engines`, which measures
the shared engine part by part (`make bench-engines`), and those that answer one question each, such as `departures`: what
happens when many members leave at once (`python -m channelstream.bench.departures`; `question` is what they share).
"""
