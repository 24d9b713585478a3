"""The figures of docs/scaling.md about the shared engine: one file for each part.

A part is a coroutine that starts servers, measures in alternating rounds, and returns tables of medians. `sizes`
has the amount of work, `stores` starts Redis and reads its usage, `api` calls a node, and `reckoning` estimates the cost
of very many connections.
"""
