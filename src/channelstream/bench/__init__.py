"""The load generator: clients, publishers and a probe that measure a running server from outside.

It speaks plain protocols over sockets and imports nothing of the server it measures. What decides (`stamps`, `inbound`,
`checker`, `histogram`, `chart`) is pure; `worker` is a process of clients; `measure` conducts one run.
"""
