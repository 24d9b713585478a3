"""The domain, pure and synchronous: no async, no I/O, no clock, no randomness.

`now` and new ids are passed in by the caller. Imports nothing of the package but `errors`.
"""
