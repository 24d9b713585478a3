"""The figures of docs/scaling.md about the engine that nodes share: one file for each part of them.

A part is a coroutine that starts what it needs, measures in rounds that take turns, and returns tables of medians. `sizes`
says how much is done, `stores` starts Redis and reads what it has used, `api` calls a node, and `reckoning` says what very
many connections would take.
"""
