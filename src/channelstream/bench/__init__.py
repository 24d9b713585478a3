"""The load generator: clients, publishers and a probe that measure a running server from outside.

It speaks plain protocols over sockets and imports nothing of the server that it measures. `stamps`, `inbound`,
`checker`, `histogram` and `chart` are pure; `worker` is a process of clients; `measure` controls one run.
"""
