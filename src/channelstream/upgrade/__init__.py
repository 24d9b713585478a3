"""Hands the work of a process over to a new one: listening sockets, open connections and state.

The new process is the same program, perhaps newer, started beside the old one. Until it has built everything, the old one
can go on as before: whatever fails, there is one process that serves. Nothing here knows the composition root.
"""
