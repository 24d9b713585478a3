"""The load generator: clients, publishers and a probe that measure a running server from outside.

It speaks plain protocols over sockets and imports nothing of the server that it measures, but its errors and TLS
settings; nothing that serves imports it. `stamps`, `inbound`, `checker`, `histogram` and `chart` are pure; `worker` is a
process of clients; `measure` controls one run.

`peers` compares other servers with this one, `engines` measures the shared engine part by part, and `departures` what
happens when many members leave at once. Each is a program of its own (`make bench-peers`, `make bench-engines`,
`python -m channelstream.bench.departures`).
"""
